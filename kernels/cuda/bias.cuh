#ifndef CCLD_KERNELS_CUDA_BIAS_CUH
#define CCLD_KERNELS_CUDA_BIAS_CUH

#include "kernels/cuda/internal.cuh"

/* y [rows, columns] = act(y + bias), in place; bias: F32 or NULL. */
void bias_activate(struct device *d, enum dtype type, int64_t rows, int64_t columns,
                   const float *bias, enum activation_kind act, void *y);
/* to[i] = from[i] converted to another type, for parameter vectors. */
void convert_vector(struct device *d, int64_t count, const float *from, enum dtype type, void *to);
/* dz = dy if y is above 0, else 0. */
void relu_gradient(struct device *d, enum dtype type, int64_t count, const void *y, const void *dy,
                   void *dz);

#endif
