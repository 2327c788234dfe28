#include "kernels/ref/ref.h"

void ref_attention_probabilities(double *p, const float *q, const float *k,
                                 const struct attention_args *a)
{
    double max = -INFINITY, sum = 0;
    for (int64_t m = 0; m < a->s; m++) {
        p[m] = ref_dot(q, k + m * a->ld_k, a->d) / sqrt((double)a->d);
        max = fmax(max, p[m]);
    }
    for (int64_t m = 0; m < a->s; m++) {
        p[m] = exp(p[m] - max);
        sum += p[m];
    }
    for (int64_t m = 0; m < a->s; m++)
        p[m] /= sum;
}

/* One item is one query row of one head of one image. */
static void queries(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention_args *a = arg;
    double *p = xmalloc((size_t)a->s * sizeof(double));
    double *sums = xmalloc((size_t)a->d * sizeof(double));
    const int32_t *uniform = a->uniform ? a->uniform->data : NULL;
    for (int64_t item = begin; item < end; item++) {
        int64_t i = item % a->s, head = item / a->s % a->heads, image = item / a->s / a->heads;
        const float *q = (const float *)a->q + (image * a->s + i) * a->ld_q + head * a->d;
        const float *k = (const float *)a->k + image * a->s * a->ld_k + head * a->d;
        const float *v = (const float *)a->v + image * a->s * a->ld_v + head * a->d;
        float *y = ref_f32(a->y) + (image * a->s + i) * a->heads * a->d + head * a->d;
        if (uniform && uniform[image * a->s + i])
            for (int64_t m = 0; m < a->s; m++)
                p[m] = 1 / (double)a->s;
        else
            ref_attention_probabilities(p, q, k, a);
        for (int64_t e = 0; e < a->d; e++)
            sums[e] = 0;
        for (int64_t m = 0; m < a->s; m++)
            for (int64_t e = 0; e < a->d; e++)
                sums[e] += p[m] * v[m * a->ld_v + e];
        for (int64_t e = 0; e < a->d; e++)
            y[e] = (float)sums[e];
    }
    free(p);
    free(sums);
}

void ref_attention(struct device *d, const struct attention_args *a)
{
    parallel_for(a->n * a->heads * a->s, 8, queries, (void *)a);
}
