#ifndef CCLD_TRAIN_RECONSTRUCTION_LOSS_H
#define CCLD_TRAIN_RECONSTRUCTION_LOSS_H

#include "common/nets/lpips.h"
#include "common/nets/patch_discriminator.h"
#include "common/train/updater.h"

/* The terms of an autoencoder's loss besides the reconstruction error, and the discriminator
 * trained with it, as in CompVis latent-diffusion, ldm/modules/losses/contperceptual.py:
 *   nll       = error + perceptual_weight * LPIPS
 *   generator = -mean of the discriminator's logits of reconstructions
 *   total     = nll + w * generator + the posterior's divergence
 *   w         = disc_weight * min(|d nll| / (|d generator| + 1e-4), 10^4), computed for each
 *               micro-batch from the gradients by the decoder's last kernel
 *   discriminator = (mean of max(0, 1 - logits of images)
 *                    + mean of max(0, 1 + logits of reconstructions)) / 2; its batch norms compute
 *                    the statistics of images and of reconstructions separately
 * Before step disc_start, or always if that is -1, the generator term is left out and the
 * discriminator is not trained.
 *
 * Differences from the reference: its error is a sum over an image's elements, ours a mean. Every
 * term is therefore smaller by the number of elements, so that weights keep their meaning, and 10^4
 * is divided by that number. The log-variance of the error is left out because the reference's
 * optimizer leaves it at 0. The discriminator trains on the same reconstructions as the
 * autoencoder; the reference computes new ones after the autoencoder's update. */

struct reconstruction_loss_options {
    double perceptual_weight; /* in the reference: 1 */
    double disc_weight;       /* in the reference: 0.5 */
    int64_t disc_start;       /* step; -1: the discriminator is never used */
    int64_t accumulate;       /* micro-batches of an update */
};

struct reconstruction_loss;

/* lpips: a network on the autoencoder's device, or NULL. discriminator: parameters on that device,
 * or NULL. Both must outlive the loss, as must c. Fails if the parameters are not a
 * discriminator's. */
int reconstruction_loss_open(struct reconstruction_loss **out,
                             const struct reconstruction_loss_options *o, const struct lpips *lpips,
                             struct parameters *discriminator, struct collective *c,
                             struct error *e);
void reconstruction_loss_close(struct reconstruction_loss *l); /* NULL is fine */

/* A micro-batch: images and their reconstructions, [n, 3, h, w] F32; the input and the weight of
 * the decoder's last convolution (kl_decode_keeping); weight: F64 [1], the factor of an image's
 * loss. The outputs are written on the device: LPIPS, F32 [n], unless there is none, and F64
 * [RECONSTRUCTION_NUMBERS] for reconstruction_loss_note, if the discriminator takes part. */
#define RECONSTRUCTION_NUMBERS 7
struct reconstruction {
    struct tensor *images, *reconstructions, *last, *last_weight, *weight;
    struct tensor *distances, *numbers;
};

/* Whether the discriminator takes part in step `step`. */
bool reconstruction_loss_judges(const struct reconstruction_loss *l, int64_t step);

/* Forward and backward of the next micro-batch, in four calls. `judged`:
 * reconstruction_loss_judges. _begin prepares it. _add may be part of replayed work
 * (kernels/replay.h), one replay for first and one for further micro-batches: *gradient is the
 * gradient by the reconstructions of the sum over images of r->weight times their loss so far; the
 * terms here are added to it, and the discriminator's gradients to its parameters. _end, which is
 * not replayed: the micro-batch is done. _note, when its outputs have arrived in host memory, adds
 * them to the numbers below; distances NULL: no LPIPS, numbers NULL: not judged. */
void reconstruction_loss_begin(struct reconstruction_loss *l, bool judged);
void reconstruction_loss_add(struct reconstruction_loss *l, bool judged,
                             const struct reconstruction *r, struct tensor **gradient);
void reconstruction_loss_end(struct reconstruction_loss *l, bool judged);
void reconstruction_loss_note(struct reconstruction_loss *l, int64_t n, const float *distances,
                              const double *numbers);
/* After all micro-batches of step `step`: updates the discriminator with Adam, betas 0.5 and 0.9,
 * unless its gradients are not finite. Returns whether it was updated. */
bool reconstruction_loss_update(struct reconstruction_loss *l, int64_t step, double learning_rate);

/* LPIPS of images and their reconstructions, [n, 3, h, w], in distances, F32 [n]; nothing without
 * LPIPS. */
void reconstruction_loss_evaluate(struct reconstruction_loss *l, struct tensor *images,
                                  struct tensor *reconstructions, struct tensor *distances);

/* Means over all ranks' micro-batches since the last call, which all ranks make; those of the
 * discriminator are NaN if it did not run. */
struct reconstruction_numbers {
    double perceptual;         /* LPIPS */
    double generator, weight;  /* -mean logit of reconstructions; w */
    double discriminator;      /* its loss */
    double logit, fake_logit;  /* of images, of reconstructions */
    double gradient_norm;      /* of the discriminator's last update */
    int64_t updates, rejected; /* of the discriminator; rejected: gradients were not finite */
};
struct reconstruction_numbers reconstruction_loss_numbers(struct reconstruction_loss *l);

#endif
