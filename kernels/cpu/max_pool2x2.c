#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

/* Where the rows of image and row of y begin in x. */
static const float *block_row(const struct tensor *x, int64_t row)
{
    int64_t h = x->shape[1], pooled = h / 2, image = row / pooled, y = row % pooled;
    return (const float *)x->data + (image * h + 2 * y) * x->shape[2] * x->shape[3];
}

static float greater(float a, float b)
{
    return b > a || isnan(b) ? b : a;
}

static void pool_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct max_pool2x2_args *a = arg;
    int64_t w = a->y->shape[2], c = a->y->shape[3], row_size = a->x->shape[2] * c;
    for (int64_t row = begin; row < end; row++)
        for (int64_t i = 0; i < w; i++) {
            const float *top = block_row(a->x, row) + 2 * i * c, *bottom = top + row_size;
            float *y = (float *)a->y->data + (row * w + i) * c;
            for (int64_t j = 0; j < c; j++)
                y[j] = greater(greater(greater(top[j], top[c + j]), bottom[j]), bottom[c + j]);
        }
}

void cpu_max_pool2x2(struct device *d, const struct max_pool2x2_args *a)
{
    parallel_for(a->y->shape[0] * a->y->shape[1], 4, pool_rows, (void *)a);
}

/* Gives dy to the first of the block's greatest, zero to the others. */
static void spread_block(float *const dx[4], const float *const x[4], const float *dy, int64_t c)
{
    for (int64_t j = 0; j < c; j++) {
        float most = x[0][j];
        int which = 0;
        for (int k = 1; k < 4; k++) {
            bool more = x[k][j] > most || isnan(x[k][j]);
            which = more ? k : which;
            most = more ? x[k][j] : most;
        }
        for (int k = 0; k < 4; k++)
            dx[k][j] = which == k ? dy[j] : 0;
    }
}

static void spread_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct max_pool2x2_backward_args *a = arg;
    int64_t w = a->dy->shape[2], c = a->dy->shape[3], row_size = a->dx->shape[2] * c;
    for (int64_t row = begin; row < end; row++) {
        const float *x = block_row(a->forward.x, row);
        float *dx = (float *)block_row(a->dx, row);
        for (int64_t i = 0; i < w; i++, x += 2 * c, dx += 2 * c) {
            const float *const from[4] = {x, x + c, x + row_size, x + row_size + c};
            float *const to[4] = {dx, dx + c, dx + row_size, dx + row_size + c};
            spread_block(to, from, (const float *)a->dy->data + (row * w + i) * c, c);
        }
    }
}

void cpu_max_pool2x2_backward(struct device *d, const struct max_pool2x2_backward_args *a)
{
    if (a->dx->shape[1] % 2 || a->dx->shape[2] % 2) {
        struct fill_args zero = {tensor_count(a->dx), a->dx->data, 0};
        cpu_fill(d, &zero);
    }
    parallel_for(a->dy->shape[0] * a->dy->shape[1], 4, spread_rows, (void *)a);
}
