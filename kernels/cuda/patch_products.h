#ifndef CCLD_KERNELS_CUDA_PATCH_PRODUCTS_H
#define CCLD_KERNELS_CUDA_PATCH_PRODUCTS_H

/* Convolutions of small images as products of patches, which cuBLASLt can split along their long
 * sums: a convolution of 4x4 pixels has fewer blocks than a GPU has multiprocessors. cudnn.cu times
 * them against cuDNN's plans. Patches pass through memory, so images must be small. */

#include "kernels/cuda/libraries.h"

/* Whether this may be faster than a convolution. */
bool patch_products_suit(const struct convolution *c);
/* As convolution_forward and convolution_backward_data. */
void patch_product_forward(struct device *d, const struct convolution *c, const void *x,
                           const void *weight, const struct tensor *bias, const void *residual,
                           void *y);
void patch_product_backward_data(struct device *d, const struct convolution *c, const void *dy,
                                 const void *weight, void *dx, bool adds);

/* y = matrix * weight^T + bias + residual; a row of the matrix is the receptive field of one pixel
 * of y. */
void product_of_patches(struct device *d, const struct convolution *c, const void *matrix,
                        const void *weight, const struct tensor *bias, const void *residual,
                        void *y);

#endif
