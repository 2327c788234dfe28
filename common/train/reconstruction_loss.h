#ifndef CCLD_TRAIN_RECONSTRUCTION_LOSS_H
#define CCLD_TRAIN_RECONSTRUCTION_LOSS_H

#include "common/nets/lpips.h"
#include "common/nets/patch_discriminator.h"
#include "common/train/updater.h"

/* What an autoencoder may be trained on beside the error of its images, and the discriminator
 * that learns with it; facts from CompVis latent-diffusion, ldm/modules/losses/contperceptual.py:
 *   nll       = error + perceptual_weight * LPIPS
 *   generator = -mean of the discriminator's logits of reconstructions
 *   total     = nll + w * generator + the posterior's divergence
 *   w         = disc_weight * min(|d nll| / (|d generator| + 1e-4), 10^4), gradients being those by
 *               the decoder's last kernel, for each micro-batch anew
 *   discriminator = (mean of max(0, 1 - logits of images)
 *                    + mean of max(0, 1 + logits of reconstructions)) / 2, each of a batch norm's
 *                    own statistics
 * and, before step disc_start, neither of the last two. There the error is a sum over an image's
 * numbers, here a mean over them: all of it is that number smaller, so that weights have the same
 * meaning (10^4 is divided by it). Of the reference's there is no log-variance of the error, since
 * its optimizer leaves it at 0; and the discriminator learns from the very reconstructions that the
 * autoencoder has learnt from, where the reference makes them once more after its update. */

struct reconstruction_loss_options {
    double perceptual_weight; /* 1 */
    double disc_weight;       /* 0.5 */
    int64_t disc_start;       /* step */
    int64_t accumulate;       /* micro-batches of an update */
};

struct reconstruction_loss;

/* lpips: NULL, or a network on the device of the autoencoder. discriminator: NULL, or a parameters
 * there; both must outlive l, as must c. Fails when the parameters is none of a discriminator. */
int reconstruction_loss_open(struct reconstruction_loss **l,
                             const struct reconstruction_loss_options *o, const struct lpips *lpips,
                             struct parameters *discriminator, struct collective *c,
                             struct error *e);
void reconstruction_loss_close(struct reconstruction_loss *l); /* NULL is fine */

/* A micro-batch: images and what became of them, [n, 3, h, w] F32; the decoder's last convolution
 * and what it got (kl_decode_keeping). */
struct reconstruction {
    struct tensor *images, *reconstructions, *last, *last_weight;
};

/* Forward and backward of micro-batch `k` of step `step`. *gradient is, and has added to it, the
 * gradient by reconstructions of the sum over images of `weight` times their loss. LPIPS is
 * added to distances[n] (host). The discriminator's gradients go to its parameters. */
void reconstruction_loss_add(struct reconstruction_loss *l, int64_t step, int64_t k,
                             const struct reconstruction *r, double weight,
                             struct tensor **gradient, double *distances);
/* After all micro-batches of step `step`: the discriminator's Adam, of betas 0.5 and 0.9. Where its
 * gradients are not finite it stays as it is. Returns whether it was updated. */
bool reconstruction_loss_update(struct reconstruction_loss *l, int64_t step, double learning_rate);

/* LPIPS of n images, [n, 3, h, w] on the host, added to distances[n]; 0 where there is none. */
void reconstruction_loss_evaluate(struct reconstruction_loss *l, int64_t n, int height, int width,
                                  const float *images, const float *reconstructions,
                                  double *distances);

/* Means over this rank's micro-batches since the last call; those of the discriminator are NAN
 * where it was not run. */
struct reconstruction_numbers {
    double perceptual;         /* LPIPS */
    double generator, weight;  /* -mean logit of reconstructions, w */
    double discriminator;      /* its loss */
    double logit, fake_logit;  /* of images, of reconstructions */
    double gradient_norm;      /* of the discriminator's last update */
    int64_t updates, rejected; /* of the discriminator: rejected ones were not finite */
};
struct reconstruction_numbers reconstruction_loss_numbers(struct reconstruction_loss *l);

/* Of images, what the networks need; 1 where there are none. */
int64_t reconstruction_loss_least_side(const struct reconstruction_loss *l);

#endif
