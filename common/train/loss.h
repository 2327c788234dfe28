#ifndef CCLD_TRAIN_LOSS_H
#define CCLD_TRAIN_LOSS_H

#include <stdbool.h>

#include "kernels/tensor.h"

/* Losses, with their gradients, of the autoencoder and of CLOOB; the U-Net's v-objective is an op,
 * mse. They cost little compared with the networks, so the host computes them in double. All
 * tensors are F32; the caller releases returned ones. */

/* For one image, in host memory. latent: number of elements of its latent; moments [2 * latent]:
 * means, then log-variances. */

/* z = mean + exp(clamp(logvar, -30, 20) / 2) * noise; noise NULL: the mode, z = mean. Returns the
 * KL divergence of the posterior from the standard normal: the sum of (mean^2 + variance - 1 -
 * logvar) / 2. */
double posterior_draw(float *z, const float *moments, const float *noise, int64_t latent);
/* Replaces moments with the gradient by them of loss + kl_weight * kl, given dz, the gradient of
 * the loss by z. dz NULL: zeros. */
void posterior_draw_backward(float *moments, const float *noise, const float *dz, int64_t latent,
                             double kl_weight);
/* Returns the mean over count elements of |x - y|, or (x - y)^2, and replaces y with the gradient
 * by it, times weight. If the mean is not finite, y[0] is NaN. */
double reconstruction_error(const float *x, float *y, int64_t count, bool squared, double weight);

/* CLOOB's loss (Fuerst et al., arXiv 2110.11316, scaled as in crowsonkb/cloob-training): a Hopfield
 * network retrieves patterns of both kinds from the batch's images and from its texts; InfoLOOB
 * contrasts each pair with the others. image, text: [n, d], n >= 2, rows of length 1. */
struct cloob_loss {
    double total;
    struct tensor *dimage, *dtext;
};
void cloob_loss(struct cloob_loss *out, const struct tensor *image, const struct tensor *text,
                double inv_tau, double scale_hopfield);

#endif
