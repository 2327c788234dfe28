#ifndef CCLD_KERNELS_CPU_ROWS_H
#define CCLD_KERNELS_CPU_ROWS_H

#include "kernels/cpu/isa.h"

/* Activations as floats: F32 ones where they are, BF16 ones converted in the cache. Ops are written
 * once for both. */

#define ROWS_BUFFER 2048 /* floats that a loop over elements converts at a time */

static inline void *element_of(const struct tensor *t, int64_t at)
{
    return (char *)t->data + (size_t)at * dtype_size(t->dtype);
}

/* n elements from `at`: a pointer into t, or to buffer[n]. */
static inline const float *row_read(const struct tensor *t, int64_t at, int64_t n, float *buffer)
{
    if (t->dtype == DTYPE_F32)
        return (const float *)t->data + at;
    cpu_isa()->widen(buffer, t->dtype, element_of(t, at), (size_t)n);
    return buffer;
}

/* Where to write elements from `at`; row_written rounds them to t's type. */
static inline float *row_begin(const struct tensor *t, int64_t at, float *buffer)
{
    return t->dtype == DTYPE_F32 ? (float *)t->data + at : buffer;
}
static inline void row_written(const struct tensor *t, int64_t at, int64_t n, const float *row)
{
    if (t->dtype != DTYPE_F32)
        cpu_isa()->narrow(element_of(t, at), row, (size_t)n);
}

/* `rows` rows of `columns` elements of data, ld apart from element `at` on, as floats: where they
 * are, or in wide[rows][columns]. *ld_out: floats between them. */
static inline const float *rows_read(enum dtype dtype, const void *data, int64_t at, int64_t ld,
                                     int64_t rows, int64_t columns, float *wide, int64_t *ld_out)
{
    *ld_out = dtype == DTYPE_F32 ? ld : columns;
    if (dtype == DTYPE_F32)
        return (const float *)data + at;
    for (int64_t i = 0; i < rows; i++)
        cpu_isa()->widen(wide + i * columns, dtype, (const uint16_t *)data + at + i * ld,
                         (size_t)columns);
    return wide;
}

/* How many of `left` elements a loop over elements of t takes at once. */
static inline int64_t rows_step(const struct tensor *t, int64_t left)
{
    return t->dtype == DTYPE_F32 || left < ROWS_BUFFER ? left : ROWS_BUFFER;
}

#endif
