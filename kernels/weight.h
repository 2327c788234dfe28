#ifndef CCLD_KERNELS_WEIGHT_H
#define CCLD_KERNELS_WEIGHT_H

#include "kernels/tensor.h"

/* Weights (matrices, kernels, embedding tables) as a device wants them. The CPU computes with them
 * as they lie in the checkpoint. A GPU wants its compute type, and kernels larger than 1x1 with
 * channels last: networks that only run hold nothing else, networks in training hold F32 weights
 * with such a working copy beside each. */

/* from[i] to to[i]: another type, and another order where channels_last differs. */
struct convert_weights_args {
    int count;
    const struct tensor *const *from;
    struct tensor *const *to;
};

/* A weight of `dtype` in host memory as the device wants it. */
struct tensor *weight_from_host(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                                const void *host);
/* Makes the working copies of weights that change, where the device wants any: to be called when
 * they have changed, and once before they are used. */
void weights_refresh(struct device *d, struct tensor *const *weights, int count);

#endif
