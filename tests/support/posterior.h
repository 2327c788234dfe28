#ifndef CCLD_TESTS_POSTERIOR_H
#define CCLD_TESTS_POSTERIOR_H

#include "kernels/tensor.h"

/* The ops of the autoencoder's loss (kernels/losses.h), one after another. Returned tensors are the
 * caller's to release. moments: [n, 2c, h, w]; noise: [n, c, h, w]. */

/* z of the op posterior. noise NULL: the mode. */
struct tensor *posterior_sample(const struct tensor *moments, const struct tensor *noise);
/* Adds the gradient by moments, given dz, to dmoments. */
void posterior_sample_backward(const struct tensor *moments, const struct tensor *noise,
                               const struct tensor *dz, struct tensor *dmoments);

/* Mean over all elements of |image - reconstruction|, plus weight times the mean over images of the
 * KL divergence. */
struct kl_loss {
    double total, reconstruction, kl;
    struct tensor *dreconstruction, *dmoments; /* dmoments: by the kl term alone */
};
void kl_loss(struct kl_loss *out, const struct tensor *image, const struct tensor *reconstruction,
             const struct tensor *moments, double weight);

#endif
