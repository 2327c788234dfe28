#ifndef CCLD_TRAIN_LOSS_H
#define CCLD_TRAIN_LOSS_H

#include <stdbool.h>

#include "kernels/tensor.h"

/* Losses of the two networks that are not the U-Net (whose v-objective is an op, mse), with their
 * gradients. They are small beside the networks, so they are computed on the host, in double. All
 * tensors are F32; returned ones are the caller's to release. */

/* Of one image, in the host's memory. latent: number of elements of its latent; moments
 * [2 * latent]: means, then log-variances. */

/* z = mean + exp(clamp(logvar, -30, 20) / 2) * noise; noise NULL: the mode, z = mean. Returns the
 * KL divergence of the posterior from the standard normal, the sum of (mean^2 + variance - 1 -
 * logvar) / 2. */
double posterior_draw(float *z, const float *moments, const float *noise, int64_t latent);
/* Puts the gradient in the place of moments, given dz, the gradient by z, of that loss and
 * kl_weight * kl. dz NULL: zeros. */
void posterior_draw_backward(float *moments, const float *noise, const float *dz, int64_t latent,
                             double kl_weight);
/* Mean over count numbers of |x - y|, or (x - y)^2; puts its gradient by y, times weight, in the
 * place of y; where the mean is not finite, nor is the first of it. */
double reconstruction_error(const float *x, float *y, int64_t count, bool squared, double weight);

/* CLOOB's (Fuerst et al., arXiv 2110.11316, scaled as in crowsonkb/cloob-training): patterns of
 * both kinds are retrieved from the batch's images and from its texts by a Hopfield network;
 * InfoLOOB holds each pair against the others. image, text: [n, d], rows of length 1. */
struct cloob_loss {
    double total;
    struct tensor *dimage, *dtext;
};
void cloob_loss(struct cloob_loss *out, const struct tensor *image, const struct tensor *text,
                double inv_tau, double scale_hopfield);

#endif
