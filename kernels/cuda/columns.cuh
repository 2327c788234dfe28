#ifndef CCLD_KERNELS_CUDA_COLUMNS_CUH
#define CCLD_KERNELS_CUDA_COLUMNS_CUH

#include "kernels/cuda/internal.cuh"

/* Columns `first` and following of every row of a tensor, as many as another one has, which has the
 * same rows and type: to = those of `from`, or those of `to` = from. */
void take_columns(struct device *d, const struct tensor *to, const struct tensor *from,
                  int64_t first);
void put_columns(struct device *d, const struct tensor *to, int64_t first,
                 const struct tensor *from);

#endif
