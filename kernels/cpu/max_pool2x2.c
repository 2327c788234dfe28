#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

/* The first of the two rows of x under a row of y. */
static const float *block_row(const struct tensor *x, int64_t row)
{
    int64_t h = x->shape[1], pooled = h / 2, image = row / pooled, y = row % pooled;
    return (const float *)x->data + (image * h + 2 * y) * x->shape[2] * x->shape[3];
}

/* Whether b replaces a; branch-free, so that the compiler vectorizes the loops. */
static int takes(float a, float b)
{
    return (b > a) | (b != b);
}

static float greater(float a, float b)
{
    return takes(a, b) ? b : a;
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

/* Several channels at once; each lane of a comparison is all ones or all zeros. */
#define LANES  4
#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

INLINE mask all_take(vec a, vec b)
{
    return (b > a) | (b != b);
}

INLINE vec load(const float *p, int64_t n)
{
    vec v = {0};
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}

INLINE void store_where(float *p, mask where, vec v, int64_t n)
{
    mask kept = where & (mask)v;
    memcpy(p, &kept, (size_t)n * sizeof *p);
}

/* Writes dy to the first maximum of the block and zero to the others, for n channels of a pixel. */
INLINE void spread_some(float *const dx[4], const float *const x[4], const float *dy, int64_t at,
                        int64_t n)
{
    vec greatest = load(x[0] + at, n), d = load(dy + at, n);
    mask taken[4], here = ~(mask){0};
    for (int k = 1; k < 4; k++) {
        vec other = load(x[k] + at, n);
        taken[k] = all_take(greatest, other);
        greatest = (vec)((taken[k] & (mask)other) | (~taken[k] & (mask)greatest));
    }
    for (int k = 3; k > 0; k--) {
        store_where(dx[k] + at, here & taken[k], d, n);
        here &= ~taken[k];
    }
    store_where(dx[0] + at, here, d, n);
}

static void spread_block(float *const dx[4], const float *const x[4], const float *dy, int64_t c)
{
    int64_t at = 0;
    for (; at + LANES <= c; at += LANES)
        spread_some(dx, x, dy, at, LANES);
    if (at < c)
        spread_some(dx, x, dy, at, c - at);
}

static void spread_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct max_pool2x2_backward_args *a = arg;
    int64_t w = a->dy->shape[2], c = a->dy->shape[3], row_size = a->dx->shape[2] * c;
    for (int64_t row = begin; row < end; row++) {
        const float *x = block_row(a->forward.x, row);
        float *dx = (float *)block_row(a->dx, row);
        for (int64_t i = 0; i < w; i++, x += 2 * c, dx += 2 * c) {
            const float *dy = (const float *)a->dy->data + (row * w + i) * c;
            const float *const from[4] = {x, x + c, x + row_size, x + row_size + c};
            float *const to[4] = {dx, dx + c, dx + row_size, dx + row_size + c};
            spread_block(to, from, dy, c);
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
