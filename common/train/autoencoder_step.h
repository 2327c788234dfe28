#ifndef CCLD_TRAIN_AUTOENCODER_STEP_H
#define CCLD_TRAIN_AUTOENCODER_STEP_H

#include "common/nets/kl.h"
#include "common/train/reconstruction_loss.h"
#include "common/train/step.h"

/* One update of a KL autoencoder: forward and backward of micro-batches, then
 * common/train/updater.h. The loss of an image is the sum of
 *   reconstruction: the mean over its elements of |x - y| (or (x - y)^2), where y is decoded from a
 *     sample of the posterior, plus any further terms of y,
 *   kl_weight * kl: the divergence of the posterior from the standard normal, summed over the
 *     latent's elements (the op posterior, kernels/losses.h).
 * The loss of an update is the mean over its images. The posterior's noise is a pure function of
 * (seed, step, sample). If the encoder is not trained, only the decoder runs backward, and kl,
 * which is then constant, is not part of the loss. */

struct autoencoder_step_options {
    bool l2; /* squared error instead of absolute error */
    double kl_weight;
    /* Further terms of the loss (common/train/reconstruction_loss.h). */
    const struct named_weights *lpips; /* its weights, which must outlive the step; NULL: none */
    double perceptual_weight;
    double disc_weight; /* of the discriminator, the parameters' companion, if there is one */
    double disc_rate;   /* its learning rate, relative to the autoencoder's */
    int64_t disc_start; /* the first step with the discriminator; -1: none */
};

/* Host memory, read only during the call. */
struct autoencoder_batch {
    int64_t n;
    int height, width;       /* multiples of the network's factor */
    const float *images;     /* [n, 3, height, width] in [-1, 1] */
    const uint64_t *samples; /* [n] record numbers */
};

struct autoencoder_losses {
    double total, reconstruction, kl; /* of one image, or means */
    double perceptual;                /* LPIPS; total includes it, times its weight */
};

struct autoencoder_step;

/* p and c must outlive the step. Fails if p is not an autoencoder with an encoder and a decoder for
 * images with three channels. */
int autoencoder_step_open(struct autoencoder_step **out, struct parameters *p, struct collective *c,
                          const struct step_options *o, const struct autoencoder_step_options *a,
                          struct error *e);
void autoencoder_step_close(struct autoencoder_step *s); /* NULL is fine */

const struct kl_sizes *autoencoder_step_sizes(const struct autoencoder_step *s);
struct updater *autoencoder_step_updater(struct autoencoder_step *s);

/* Forward and backward of the next micro-batch of step `step` (from 0, below 2^26); b->n is the
 * options' batch. */
void autoencoder_step_micro_batch(struct autoencoder_step *s, int64_t step,
                                  const struct autoencoder_batch *b);
/* The same with given noise for the posterior, [n, z, h, w] on the host. */
void autoencoder_step_micro_batch_drawn(struct autoencoder_step *s, int64_t step,
                                        const struct autoencoder_batch *b, const float *noise);
/* Applies the update after `accumulate` micro-batches. */
void autoencoder_step_update(struct autoencoder_step *s, double learning_rate, double ema_decay,
                             struct step_result *r);
/* Means over the last update's effective batch of all ranks. */
struct autoencoder_losses autoencoder_step_losses(const struct autoencoder_step *s);

/* Numbers of the further terms since the last call, which all ranks make; zeros without further
 * terms. */
struct reconstruction_numbers autoencoder_step_numbers(struct autoencoder_step *s);

/* Reconstructs any number n of images from the posterior's mean, [n, 3, height, width], and
 * computes their losses [n]. which: ARRAY_WEIGHTS or ARRAY_EMA. */
void autoencoder_step_reconstruct(struct autoencoder_step *s, enum parameter_array which,
                                  const struct autoencoder_batch *b, float *reconstructions,
                                  struct autoencoder_losses *losses);

/* Peak memory in bytes of training p with `ranks` ranks on images of this size, on a device like
 * `like`. Computes nothing. */
int64_t autoencoder_step_memory(const struct parameters *p, const struct step_options *o,
                                const struct autoencoder_step_options *a, const struct device *like,
                                int ranks, int height, int width);

/* For parameters_from_names: all tensors but those of the decoder and post_quant_conv. With these
 * fixed, latents keep their meaning. */
bool autoencoder_is_encoder(const char *name);

#endif
