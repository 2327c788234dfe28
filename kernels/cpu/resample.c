#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/resample.h"

static void mean_of(float *y, const float *const p[4], int64_t count)
{
    const float *a = p[0], *b = p[1], *c = p[2], *d = p[3];
    for (int64_t i = 0; i < count; i++)
        y[i] = (a[i] + b[i] + c[i] + d[i]) * 0.25f;
}

/* p: near, beside it, below or above it, and the farthest. */
static void bilinear_of(float *y, const float *const p[4], int64_t count)
{
    const float *a = p[0], *b = p[1], *c = p[2], *d = p[3];
    for (int64_t i = 0; i < count; i++)
        y[i] = 0.75f * (0.75f * a[i] + 0.25f * b[i]) + 0.25f * (0.75f * c[i] + 0.25f * d[i]);
}

/* Each function writes output rows [begin, end), counted over all images. */
static void pool_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct avg_pool2x2_args *a = arg;
    int64_t h = a->y->shape[1], w = a->y->shape[2], c = a->y->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t i = 0; i < w; i++) {
            int64_t top = resample_pixel(a->x, row / h, row % h * 2, i * 2),
                    bottom = top + 2 * w * c;
            resample_combine(a->y, (row * w + i) * c, a->x,
                             (int64_t[]){top, top + c, bottom, bottom + c}, mean_of);
        }
}

void cpu_avg_pool2x2(struct device *d, const struct avg_pool2x2_args *a)
{
    parallel_for(a->y->shape[0] * a->y->shape[1], 4, pool_rows, (void *)a);
}

static void nearest_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct upsample_nearest2x_args *a = arg;
    int64_t h = a->y->shape[1], w = a->y->shape[2], c = a->y->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t i = 0; i < w; i++)
            memcpy(element_of(a->y, (row * w + i) * c),
                   element_of(a->x, resample_pixel(a->x, row / h, row % h / 2, i / 2)),
                   (size_t)c * dtype_size(a->x->dtype));
}

void cpu_upsample_nearest2x(struct device *d, const struct upsample_nearest2x_args *a)
{
    parallel_for(a->y->shape[0] * a->y->shape[1], 4, nearest_rows, (void *)a);
}

/* Output i lies a quarter pixel from input i/2: 3/4 of the nearer neighbor, 1/4 of the farther. */
static void bilinear_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct upsample_bilinear2x_args *a = arg;
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3], both = a->y->shape[3];
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / (2 * h), oy = row % (2 * h), near_y = oy / 2;
        int64_t far_y = oy % 2 ? near_y + 1 : near_y - 1;
        far_y = far_y < 0 ? 0 : far_y >= h ? h - 1 : far_y;
        for (int64_t ox = 0; ox < 2 * w; ox++) {
            int64_t near_x = ox / 2, far_x = ox % 2 ? near_x + 1 : near_x - 1;
            far_x = far_x < 0 ? 0 : far_x >= w ? w - 1 : far_x;
            const int64_t from[4] = {
                resample_pixel(a->x, n, near_y, near_x), resample_pixel(a->x, n, near_y, far_x),
                resample_pixel(a->x, n, far_y, near_x), resample_pixel(a->x, n, far_y, far_x)};
            int64_t pixel = row * 2 * w + ox;
            resample_combine(a->y, pixel * both, a->x, from, bilinear_of);
            if (a->beside)
                memcpy(element_of(a->y, pixel * both + c),
                       element_of(a->beside, pixel * (both - c)),
                       (size_t)(both - c) * dtype_size(a->y->dtype));
        }
    }
}

void cpu_upsample_bilinear2x(struct device *d, const struct upsample_bilinear2x_args *a)
{
    parallel_for(a->y->shape[0] * a->y->shape[1], 4, bilinear_rows, (void *)a);
}

static void to_nhwc_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct to_nhwc_args *a = arg;
    int64_t h = a->y->shape[1], w = a->y->shape[2], c = a->y->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t k = 0; k < c; k++) {
            const float *x = (const float *)a->x->data + ((row / h * c + k) * h + row % h) * w;
            float *y = (float *)a->y->data + row * w * c + k;
            float scale = a->scale ? a->scale[k] : 1, shift = a->scale ? a->shift[k] : 0;
            for (int64_t i = 0; i < w; i++)
                y[i * c] = x[i] * scale + shift;
        }
}

void cpu_to_nhwc(struct device *d, const struct to_nhwc_args *a)
{
    parallel_for(a->y->shape[0] * a->y->shape[1], 8, to_nhwc_rows, (void *)a);
}

static void to_nchw_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct to_nchw_args *a = arg;
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    for (int64_t row = begin; row < end; row++)
        for (int64_t k = 0; k < c; k++) {
            const float *x = (const float *)a->x->data + row * w * c + k;
            float *y = (float *)a->y->data + ((row / h * c + k) * h + row % h) * w;
            for (int64_t i = 0; i < w; i++)
                y[i] = x[i * c];
        }
}

void cpu_to_nchw(struct device *d, const struct to_nchw_args *a)
{
    parallel_for(a->x->shape[0] * a->x->shape[1], 8, to_nchw_rows, (void *)a);
}
