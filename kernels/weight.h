#ifndef CCLD_KERNELS_WEIGHT_H
#define CCLD_KERNELS_WEIGHT_H

#include "kernels/tensor.h"

/* Weights (matrices, kernels, embedding tables, vectors) in the form a device needs. The CPU
 * computes with them as stored in the checkpoint. A GPU needs its compute type, and channels last
 * for kernels larger than 1x1. Networks for inference hold only that form; networks in training
 * hold F32 weights and a working copy of each in that form. Vectors are always F32 and have a
 * working copy, which NVIDIA's libraries take as a bias. */

/* Converts from[i] to to[i]: the type, and the order if channels_last differs. */
struct convert_weights_args {
    int count;
    const struct tensor *const *from;
    struct tensor *const *to;
};

/* Copies host memory of `dtype`, in checkpoint order, to `to` in its own type and order, in pieces
 * that are read, copied and converted at the same time. `host` may be a mapped file, of which the
 * pieces ahead are asked for, and may be reused when the call returns, which may be before `to` is
 * written. */
struct load_weight_args {
    const void *host;
    enum dtype dtype;
    struct tensor *to;
};

/* Loads a weight of `dtype` from host memory in the form the device needs. */
struct tensor *weight_from_host(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                                const void *host);
/* Updates the working copies of trained weights, if the device needs any. Call it once before using
 * the weights and whenever they have changed. */
void weights_refresh(struct device *d, struct tensor *const *weights, int count);

#endif
