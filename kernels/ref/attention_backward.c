#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* Scratch of one head of one image: the weights p of a query row and their gradients; the gradients
 * of keys and values [s, d], summed over query rows. */
struct workspace {
    double *p, *dp, *dk, *dv;
};

/* Computes dq of query row i and adds its part of dk and dv. Pointers are to row 0 of the head.
 * With scores t = q k / sqrt(d), p = softmax(t): dp = dy v, dt = p (dp - sum p dp). */
static void query(struct workspace *w, const struct attention_args *a, int64_t i, bool uniform,
                  const float *q, const float *k, const float *v, const float *dy, float *dq)
{
    double scale = 1 / sqrt((double)a->d), expectation = 0;
    if (uniform)
        for (int64_t m = 0; m < a->s; m++)
            w->p[m] = 1 / (double)a->s;
    else
        ref_attention_probabilities(w->p, q + i * a->ld_q, k, a);
    dy += i * a->heads * a->d;
    for (int64_t m = 0; m < a->s; m++) {
        w->dp[m] = ref_dot(dy, v + m * a->ld_v, a->d);
        expectation += w->p[m] * w->dp[m];
        for (int64_t e = 0; e < a->d; e++)
            w->dv[m * a->d + e] += w->p[m] * dy[e];
    }
    for (int64_t m = 0; m < a->s; m++) {
        double dt = uniform ? 0 : w->p[m] * (w->dp[m] - expectation);
        for (int64_t e = 0; e < a->d; e++)
            w->dk[m * a->d + e] += dt * scale * q[i * a->ld_q + e];
        w->dp[m] = dt;
    }
    for (int64_t e = 0; e < a->d; e++) {
        double sum = 0;
        for (int64_t m = 0; m < a->s; m++)
            sum += w->dp[m] * k[m * a->ld_k + e];
        dq[i * a->ld_q + e] = (float)(sum * scale);
    }
}

/* One item is one head of one image. */
static void heads(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct attention_backward_args *b = arg;
    const struct attention_args *a = &b->forward;
    const int32_t *uniform = a->uniform ? a->uniform->data : NULL;
    struct workspace w = {xmalloc((size_t)a->s * sizeof(double)),
                          xmalloc((size_t)a->s * sizeof(double)),
                          xmalloc((size_t)(a->s * a->d) * sizeof(double)),
                          xmalloc((size_t)(a->s * a->d) * sizeof(double))};
    for (int64_t item = begin; item < end; item++) {
        int64_t image = item / a->heads, column = item % a->heads * a->d, row = image * a->s;
        int64_t q = row * a->ld_q + column, k = row * a->ld_k + column, v = row * a->ld_v + column;
        const float *dy = ref_f32(b->dy) + row * a->heads * a->d + column;
        for (int64_t j = 0; j < a->s * a->d; j++)
            w.dk[j] = w.dv[j] = 0;
        for (int64_t i = 0; i < a->s; i++)
            query(&w, a, i, uniform && uniform[row + i], (const float *)a->q + q,
                  (const float *)a->k + k, (const float *)a->v + v, dy, (float *)b->dq + q);
        for (int64_t m = 0; m < a->s; m++) {
            for (int64_t e = 0; e < a->d; e++) {
                ((float *)b->dk)[k + m * a->ld_k + e] = (float)w.dk[m * a->d + e];
                ((float *)b->dv)[v + m * a->ld_v + e] = (float)w.dv[m * a->d + e];
            }
        }
    }
    free(w.p);
    free(w.dp);
    free(w.dk);
    free(w.dv);
}

void ref_attention_backward(struct device *d, const struct attention_backward_args *a)
{
    if (a->dq)
        parallel_for(a->forward.n * a->forward.heads, 1, heads, (void *)a);
}
