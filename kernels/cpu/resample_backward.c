#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/resample.h"

static void pool_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct avg_pool2x2_backward_args *a = arg;
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t x = 0; x < w; x++) {
            int64_t from = resample_pixel(a->dy, row / h, row % h / 2, x / 2),
                    to = (row * w + x) * c;
            float buffers[3][RESAMPLE_PART];
            for (int64_t k = 0, n; k < c; k += n) {
                n = resample_part(a->dx, c - k);
                const float *dy = row_read(a->dy, from + k, n, buffers[0]);
                float *dx = row_begin(a->dx, to + k, buffers[1]);
                const float *before = a->adds ? row_read(a->dx, to + k, n, buffers[2]) : NULL;
                for (int64_t i = 0; i < n; i++)
                    dx[i] = 0.25f * dy[i] + (before ? before[i] : 0);
                row_written(a->dx, to + k, n, dx);
            }
        }
}

void cpu_avg_pool2x2_backward(struct device *d, const struct avg_pool2x2_backward_args *a)
{
    parallel_for(a->dx->shape[0] * a->dx->shape[1], 4, pool_rows, (void *)a);
}

static void sum_of(float *y, const float *const p[4], int64_t count)
{
    const float *a = p[0], *b = p[1], *c = p[2], *d = p[3];
    for (int64_t i = 0; i < count; i++)
        y[i] = a[i] + b[i] + c[i] + d[i];
}

static void nearest_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct upsample_nearest2x_backward_args *a = arg;
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t x = 0; x < w; x++) {
            int64_t top = resample_pixel(a->dy, row / h, row % h * 2, x * 2),
                    bottom = top + 2 * w * c;
            resample_combine(a->dx, (row * w + x) * c, a->dy,
                             (int64_t[]){top, top + c, bottom, bottom + c}, sum_of);
        }
}

void cpu_upsample_nearest2x_backward(struct device *d,
                                     const struct upsample_nearest2x_backward_args *a)
{
    parallel_for(a->dx->shape[0] * a->dx->shape[1], 4, nearest_rows, (void *)a);
}

/* The weight of input i in output i*2 - 1 + k, k in 0..3, of a line of n inputs: 1/4, 3/4, 3/4,
 * 1/4; weights beyond an edge are added at the edge. */
static int line_weights(int64_t i, int64_t n, int64_t at[4], float weight[4])
{
    int count = 0;
    for (int k = 0; k < 4; k++) {
        int64_t o = 2 * i - 1 + k;
        if (o < 0 || o >= 2 * n)
            continue;
        at[count] = o;
        weight[count] = k == 0 || k == 3 ? 0.25f : 0.75f;
        if ((i == 0 && o == 0) || (i == n - 1 && o == 2 * n - 1))
            weight[count] += 0.25f;
        count++;
    }
    return count;
}

static void bilinear_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct upsample_bilinear2x_backward_args *a = arg;
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    for (int64_t row = begin; row < end; row++) {
        int64_t ys[4], xs[4];
        float wy[4], wx[4];
        int ny = line_weights(row % h, h, ys, wy);
        for (int64_t x = 0; x < w; x++) {
            int nx = line_weights(x, w, xs, wx);
            float *dx = (float *)a->dx->data + (row * w + x) * c;
            memset(dx, 0, (size_t)c * sizeof *dx);
            for (int i = 0; i < ny; i++)
                for (int k = 0; k < nx; k++) {
                    const float *dy =
                        (const float *)a->dy->data + resample_pixel(a->dy, row / h, ys[i], xs[k]);
                    float weight = wy[i] * wx[k];
                    for (int64_t j = 0; j < c; j++)
                        dx[j] += weight * dy[j];
                }
        }
    }
}

void cpu_upsample_bilinear2x_backward(struct device *d,
                                      const struct upsample_bilinear2x_backward_args *a)
{
    if (a->dx)
        parallel_for(a->dx->shape[0] * a->dx->shape[1], 4, bilinear_rows, (void *)a);
    if (a->dbeside)
        cpu_concat_backward(d, &(struct concat_backward_args){a->dy, NULL, a->dbeside});
}
