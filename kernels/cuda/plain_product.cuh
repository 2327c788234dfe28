#ifndef CCLD_KERNELS_CUDA_PLAIN_PRODUCT_CUH
#define CCLD_KERNELS_CUDA_PLAIN_PRODUCT_CUH

#include "kernels/cuda/libraries.h"

/* matrix_product (libraries.h) for any types, pitches and alignments, used if the library has no
 * algorithm. One thread per element of c; slow. */
void plain_product(struct device *d, const struct matrix_product *p);

#endif
