#ifndef CCLD_KERNELS_LOSSES_H
#define CCLD_KERNELS_LOSSES_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/tensor.h"

/* Losses of the autoencoder, of its discriminator and of CLOOB, with their gradients, as ops of a
 * training step (kernels/training.h). Numbers that change between steps, such as the loss scale,
 * are read from tensors, so that a step can be replayed (kernels/replay.h). Losses and weights are
 * F64, all other tensors F32. `weight` has one element, the factor of an image's loss in the value
 * that is differentiated. An image's sums depend on that image only. */

/* A sample of the posterior and its divergence (Kingma and Welling, arXiv 1312.6114, appendix B).
 * moments [n, 2z, h, w]: means, then log-variances, which are clamped to [-30, 20]; the others are
 * [n, z, h, w]. z = mean + exp(logvar / 2) * noise, or mean if noise is NULL. kl[i] (F64 [n]) = sum
 * over image i of (mean^2 + variance - 1 - logvar) / 2, its divergence from the standard normal. */
struct posterior_args {
    const struct tensor *moments, *noise;
    struct tensor *z, *kl;
};
/* dmoments: the gradient by the moments of loss + kl_weight * weight * sum of kl, given dz, that of
 * the loss by z. No gradient flows through a clamped log-variance. noise may be NULL. */
struct posterior_backward_args {
    const struct tensor *moments, *noise, *dz, *weight;
    double kl_weight;
    struct tensor *dmoments;
};

/* loss[i] (F64 [n]) = mean over image i of |y - x|, or (y - x)^2 if squared; dy: weight times its
 * gradient by y. If loss[i] is not finite, neither is the first element of image i's dy. dy may be
 * NULL; weight may then be NULL, too. */
struct reconstruction_error_args {
    const struct tensor *x, *y, *weight;
    bool squared;
    struct tensor *loss, *dy;
};

/* Half of a discriminator's hinge loss (Lim and Ye, arXiv 1705.02894): means[0] = mean of x,
 * means[1] = mean of max(0, 1 - sign * x) / 2; dx = scale times the gradient of means[1]. x, dx:
 * any equal shape; dx may be NULL. means: F64 [2]. */
struct hinge_loss_args {
    const struct tensor *x;
    double sign, scale;
    struct tensor *means, *dx;
};

/* The weight of a generator's loss (Esser et al., arXiv 2012.09841, eq. 7): w (F64 [1]) =
 * disc_weight * min(nll / (generator + epsilon * images * weight), most), where nll and generator
 * are the roots of the sums of `segments` squares (square_sums) on the device. */
struct adaptive_weight_args {
    const double *nll, *generator;
    int64_t segments;
    const struct tensor *weight;
    double images, epsilon, most, disc_weight;
    struct tensor *w;
};

/* CLOOB's loss (Fuerst et al., arXiv 2110.11316, scaled as in crowsonkb/cloob-training): a Hopfield
 * network retrieves patterns of both kinds from the batch's images and from its texts; InfoLOOB
 * contrasts each pair with the others. image, text: [n, d], n >= 2, rows of length 1. With
 *   R(s, q) = row by row: softmax(scale_hopfield * q s^T) s, scaled to length 1
 *   L(u, v) = mean over i of log(sum over j != i of exp(inv_tau * u_i v_j)) - inv_tau * u_i v_i
 * the loss is (L(R(image, image), R(image, text)) + L(R(text, text), R(text, image))) / 2. numbers
 * (F64 [2]): the loss, and the mean cosine of pairs. dimage, dtext: weight times its gradients. */
struct cloob_loss_args {
    const struct tensor *image, *text, *weight;
    double inv_tau, scale_hopfield;
    struct tensor *numbers, *dimage, *dtext;
};

/* y = scale * factor / divisor, in every element. scale: F64 [1]. */
struct fill_scaled_args {
    const struct tensor *scale;
    double factor, divisor;
    struct tensor *y;
};

/* y = a + scale * b; scale: F64 [1], rounded to F32. Rounds as linear_combination. */
struct add_scaled_args {
    const struct tensor *a, *b, *scale;
    struct tensor *y;
};

/* Copies bytes, on the device. */
struct copy_args {
    const void *from;
    void *to;
    size_t bytes;
};

#endif
