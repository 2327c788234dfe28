#ifndef CCLD_TRAIN_AUTOENCODER_BUFFERS_H
#define CCLD_TRAIN_AUTOENCODER_BUFFERS_H

#include "kernels/tensor.h"

/* The inputs of a micro-batch of the autoencoder and its outputs, which the host reads only in the
 * update. Their device memory stays in place, so that the work on them can be replayed. */
struct autoencoder_buffers {
    int64_t n, height, width;
    struct tensor *images;      /* [n, 3, height, width] */
    struct tensor *draws;       /* I64 [n, 2], of the posterior's noise */
    struct tensor *weight;      /* F64 [1]: factor of an image's loss in what is differentiated */
    struct tensor *outputs;     /* F64 [autoencoder_outputs(n)]: the rest, in this order */
    struct tensor *errors, *kl; /* F64 [n] */
    struct tensor *numbers;     /* of reconstruction_loss_add */
    struct tensor *distances;   /* F32 [n]: LPIPS */
};

int64_t autoencoder_outputs(int64_t n);
void autoencoder_buffers_make(struct autoencoder_buffers *b, struct device *d, int64_t n,
                              int64_t height, int64_t width);
void autoencoder_buffers_release(struct autoencoder_buffers *b); /* zeroed is fine */

#endif
