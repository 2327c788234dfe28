#ifndef CCLD_KERNELS_CPU_RESAMPLE_H
#define CCLD_KERNELS_CPU_RESAMPLE_H

#include "kernels/cpu/rows.h"

/* What resampling and its backward pass share. */

#define RESAMPLE_PART 512 /* channels that are converted at a time, of BF16 */

/* Where the first channel of a pixel is. */
static inline int64_t resample_pixel(const struct tensor *x, int64_t n, int64_t y, int64_t column)
{
    return ((n * x->shape[1] + y) * x->shape[2] + column) * x->shape[3];
}

static inline int64_t resample_part(const struct tensor *x, int64_t left)
{
    return x->dtype == DTYPE_F32 || left < RESAMPLE_PART ? left : RESAMPLE_PART;
}

/* y[to ..] = sum(pixels of x at from[0 .. 4)), for all channels. */
static inline void resample_combine(const struct tensor *y, int64_t to, const struct tensor *x,
                                    const int64_t from[4],
                                    void (*sum)(float *y, const float *const p[4], int64_t count))
{
    float buffers[5][RESAMPLE_PART];
    for (int64_t c = x->shape[3], i = 0, n; i < c; i += n) {
        const float *p[4];
        n = resample_part(x, c - i);
        for (int k = 0; k < 4; k++)
            p[k] = row_read(x, from[k] + i, n, buffers[k]);
        float *out = row_begin(y, to + i, buffers[4]);
        sum(out, p, n);
        row_written(y, to + i, n, out);
    }
}

#endif
