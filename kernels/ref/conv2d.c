#include "kernels/ref/ref.h"

struct conv2d_job {
    const struct conv2d_args *a;
    const float *taps; /* [kh, kw, ci, co] */
};

/* Output channels are innermost, so that a pixel's sums advance together through the taps. */
static void pixel(const struct conv2d_job *job, int64_t image, int64_t oy, int64_t ox, double *sums)
{
    const struct conv2d_args *a = job->a;
    int64_t h = a->x->shape[1], w = a->x->shape[2], ci = a->x->shape[3];
    int64_t co = a->weight->shape[0], kh = a->weight->shape[2], kw = a->weight->shape[3];
    const float *bias = a->bias ? ref_f32(a->bias) : NULL;
    for (int64_t o = 0; o < co; o++)
        sums[o] = bias ? bias[o] : 0;
    for (int64_t ky = 0; ky < kh; ky++) {
        for (int64_t kx = 0; kx < kw; kx++) {
            int64_t iy = oy * a->stride + ky - a->pad_begin;
            int64_t ix = ox * a->stride + kx - a->pad_begin;
            if (iy < 0 || iy >= h || ix < 0 || ix >= w)
                continue;
            const float *in = ref_f32(a->x) + ((image * h + iy) * w + ix) * ci;
            const float *tap = job->taps + (ky * kw + kx) * ci * co;
            for (int64_t i = 0; i < ci; i++)
                for (int64_t o = 0; o < co; o++)
                    sums[o] += (double)tap[i * co + o] * in[i];
        }
    }
}

static void output_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct conv2d_job *job = arg;
    const struct tensor *y = job->a->y, *residual = job->a->residual;
    int64_t oh = y->shape[1], ow = y->shape[2], co = y->shape[3];
    double *sums = xmalloc((size_t)co * sizeof(double));
    for (int64_t row = begin; row < end; row++) {
        for (int64_t ox = 0; ox < ow; ox++) {
            pixel(job, row / oh, row % oh, ox, sums);
            int64_t at = (row * ow + ox) * co;
            for (int64_t o = 0; o < co; o++)
                ref_f32(y)[at + o] = (float)(sums[o] + (residual ? ref_f32(residual)[at + o] : 0));
        }
    }
    free(sums);
}

void ref_conv2d(struct device *d, const struct conv2d_args *a)
{
    int64_t co = a->weight->shape[0], ci = a->weight->shape[1];
    int64_t window = a->weight->shape[2] * a->weight->shape[3];
    float *weight = ref_weights(a->weight);
    float *taps = xmalloc((size_t)(co * ci * window) * sizeof(float));
    for (int64_t o = 0; o < co; o++)
        for (int64_t i = 0; i < ci; i++)
            for (int64_t k = 0; k < window; k++)
                taps[(k * ci + i) * co + o] = weight[(o * ci + i) * window + k];
    free(weight);
    struct conv2d_job job = {a, taps};
    parallel_for(a->y->shape[0] * a->y->shape[1], 1, output_rows, &job);
    free(taps);
}
