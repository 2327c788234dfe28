#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* Input channels are innermost, so that the sums of a pixel or a filter advance together. */
struct conv2d_backward_job {
    const struct conv2d_backward_args *a;
    const float *taps; /* [kh, kw, co, ci] */
};

/* sums[ci] over all outputs that read input pixel (iy, ix). */
static void input_pixel(const struct conv2d_backward_job *job, int64_t image, int64_t iy,
                        int64_t ix, double *sums)
{
    const struct conv2d_args *f = &job->a->forward;
    int64_t co = f->weight->shape[0], ci = f->weight->shape[1];
    int64_t kh = f->weight->shape[2], kw = f->weight->shape[3];
    int64_t oh = job->a->dy->shape[1], ow = job->a->dy->shape[2];
    for (int64_t i = 0; i < ci; i++)
        sums[i] = 0;
    for (int64_t ky = 0; ky < kh; ky++) {
        for (int64_t kx = 0; kx < kw; kx++) {
            int64_t y = iy + f->pad_begin - ky, x = ix + f->pad_begin - kx;
            if (y < 0 || x < 0 || y % f->stride || x % f->stride)
                continue;
            y /= f->stride, x /= f->stride;
            if (y >= oh || x >= ow)
                continue;
            const float *dy = ref_f32(job->a->dy) + ((image * oh + y) * ow + x) * co;
            const float *tap = job->taps + (ky * kw + kx) * co * ci;
            for (int64_t o = 0; o < co; o++)
                for (int64_t i = 0; i < ci; i++)
                    sums[i] += (double)tap[o * ci + i] * dy[o];
        }
    }
}

static void input_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct conv2d_backward_job *job = arg;
    const struct tensor *dx = job->a->dx;
    int64_t h = dx->shape[1], w = dx->shape[2], ci = dx->shape[3];
    double *sums = xmalloc((size_t)ci * sizeof(double));
    for (int64_t row = begin; row < end; row++) {
        for (int64_t ix = 0; ix < w; ix++) {
            input_pixel(job, row / h, row % h, ix, sums);
            for (int64_t i = 0; i < ci; i++)
                ref_set(dx, (row * w + ix) * ci + i, job->a->adds, sums[i]);
        }
    }
    free(sums);
}

static void input_gradient(const struct conv2d_backward_args *a)
{
    const struct tensor *weight = a->forward.weight;
    int64_t co = weight->shape[0], ci = weight->shape[1];
    int64_t window = weight->shape[2] * weight->shape[3];
    float *taps = xmalloc((size_t)tensor_count(weight) * sizeof(float));
    for (int64_t o = 0; o < co; o++)
        for (int64_t i = 0; i < ci; i++)
            for (int64_t k = 0; k < window; k++)
                taps[(k * co + o) * ci + i] = ref_f32(weight)[(o * ci + i) * window + k];
    struct conv2d_backward_job job = {a, taps};
    parallel_for(a->dx->shape[0] * a->dx->shape[1], 1, input_rows, &job);
    free(taps);
}

/* sums[kh, kw, ci] of filter o: every output pixel adds its input patch times its dy. */
static void filter(const struct conv2d_backward_args *a, int64_t o, double *sums)
{
    const struct conv2d_args *f = &a->forward;
    int64_t h = f->x->shape[1], w = f->x->shape[2], ci = f->x->shape[3];
    int64_t kh = f->weight->shape[2], kw = f->weight->shape[3];
    int64_t oh = a->dy->shape[1], ow = a->dy->shape[2], co = a->dy->shape[3];
    for (int64_t j = 0; j < kh * kw * ci; j++)
        sums[j] = 0;
    for (int64_t pixel = 0; pixel < a->dy->shape[0] * oh * ow; pixel++) {
        double dy = ref_f32(a->dy)[pixel * co + o];
        int64_t image = pixel / (oh * ow), oy = pixel / ow % oh, ox = pixel % ow;
        for (int64_t ky = 0; ky < kh; ky++) {
            for (int64_t kx = 0; kx < kw; kx++) {
                int64_t iy = oy * f->stride + ky - f->pad_begin;
                int64_t ix = ox * f->stride + kx - f->pad_begin;
                if (iy < 0 || iy >= h || ix < 0 || ix >= w)
                    continue;
                const float *x = ref_f32(f->x) + ((image * h + iy) * w + ix) * ci;
                for (int64_t i = 0; i < ci; i++)
                    sums[(ky * kw + kx) * ci + i] += dy * x[i];
            }
        }
    }
}

static void filters(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct conv2d_backward_args *a = arg;
    int64_t ci = a->dweight->shape[1], window = a->dweight->shape[2] * a->dweight->shape[3];
    double *sums = xmalloc((size_t)(window * ci) * sizeof(double));
    for (int64_t o = begin; o < end; o++) {
        float *dweight = ref_f32(a->dweight) + o * ci * window;
        filter(a, o, sums);
        for (int64_t i = 0; i < ci; i++)
            for (int64_t k = 0; k < window; k++)
                dweight[i * window + k] =
                    (float)((a->fresh ? 0 : dweight[i * window + k]) + sums[k * ci + i]);
    }
    free(sums);
}

void ref_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    if (a->dx)
        input_gradient(a);
    if (a->dweight)
        parallel_for(a->dweight->shape[0], 1, filters, (void *)a);
    if (a->fresh_bias)
        ref_clear(a->dbias);
    if (a->dbias)
        ref_add_column_sums(ref_f32(a->dbias), ref_f32(a->dy), tensor_rows(a->dy),
                            tensor_last(a->dy));
}
