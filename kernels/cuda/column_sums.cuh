#ifndef CCLD_KERNELS_CUDA_COLUMN_SUMS_CUH
#define CCLD_KERNELS_CUDA_COLUMN_SUMS_CUH

#include "kernels/cuda/internal.cuh"

/* sums[j] += (or = if fresh) x[0, j] + x[1, j] + ..., for gradients of parameters shared by all
 * images. x has type `dtype`, and its rows are `pitch` elements apart. The order of additions
 * depends on rows and columns only. */
void add_column_sums(struct device *d, float *sums, enum dtype dtype, const void *x, int64_t rows,
                     int64_t columns, int64_t pitch, bool fresh = false);

#endif
