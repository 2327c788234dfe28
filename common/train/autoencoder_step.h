#ifndef CCLD_TRAIN_AUTOENCODER_STEP_H
#define CCLD_TRAIN_AUTOENCODER_STEP_H

#include "common/nets/kl.h"
#include "common/train/reconstruction_loss.h"
#include "common/train/step.h"

/* One update of a KL autoencoder: micro-batches forward and backward, then common/train/updater.h.
 * The loss of an image is
 *   reconstruction: mean over its numbers of |x - y| (or (x - y)^2), y being decoded from a sample
 *     of the posterior, plus what further terms say of y,
 *   kl_weight * kl: the divergence of the posterior from the standard normal, summed over the
 *     latent's numbers (common/train/loss.h),
 * and that of an update the mean over its images. The posterior's noise is a pure function of
 * (seed, step, sample). Where the parameters does not train the encoder, only the decoder is run
 * backward, and kl, which does not change, does not count. */

struct autoencoder_step_options {
    bool l2; /* squared error instead of absolute error */
    double kl_weight;
    /* Further terms of the loss (common/train/reconstruction_loss.h). */
    const struct named_weights *lpips; /* its weights, which must outlive the step; NULL: none */
    double perceptual_weight;
    double disc_weight; /* of the discriminator that is the parameters's companion, where there is
                           one */
    double disc_rate;   /* its learning rate, in the autoencoder's */
    int64_t disc_start;
};

/* Host memory, read during the call only. */
struct autoencoder_batch {
    int64_t n;
    int height, width;       /* multiples of the network's factor */
    const float *images;     /* [n, 3, height, width] in [-1, 1] */
    const uint64_t *samples; /* [n] numbers of the records */
};

struct autoencoder_losses {
    double total, reconstruction, kl; /* of one image, or means */
    double perceptual;                /* LPIPS; in the total with its weight */
};

struct autoencoder_step;

/* p, c must outlive s. Fails when p is not an autoencoder with both halves, for images of three
 * channels. */
int autoencoder_step_open(struct autoencoder_step **s, struct parameters *p, struct collective *c,
                          const struct step_options *o, const struct autoencoder_step_options *a,
                          struct error *e);
void autoencoder_step_close(struct autoencoder_step *s); /* NULL is fine */

struct updater *autoencoder_step_updater(struct autoencoder_step *s);
const struct kl_sizes *autoencoder_step_sizes(const struct autoencoder_step *s);

/* Of the next micro-batch of step `step`; b->n is the options' batch. */
void autoencoder_step_micro_batch(struct autoencoder_step *s, int64_t step,
                                  const struct autoencoder_batch *b);
/* The same with the posterior's noise given, [n, z, h, w] on the host. */
void autoencoder_step_micro_batch_drawn(struct autoencoder_step *s, int64_t step,
                                        const struct autoencoder_batch *b, const float *noise);
/* After `accumulate` micro-batches. */
void autoencoder_step_update(struct autoencoder_step *s, double learning_rate, double ema_decay,
                             struct step_result *r);
/* Means over the last update's effective batch of all ranks. */
struct autoencoder_losses autoencoder_step_losses(const struct autoencoder_step *s);

/* Of the further terms, since the last call. */
struct reconstruction_numbers autoencoder_step_numbers(struct autoencoder_step *s);

/* Pictures as they are decoded from the posterior's mean, [n, 3, height, width], and their losses
 * [n]. Any n. which: ARRAY_WEIGHTS or ARRAY_EMA. */
void autoencoder_step_reconstruct(struct autoencoder_step *s, enum parameter_array which,
                                  const struct autoencoder_batch *b, float *reconstructions,
                                  struct autoencoder_losses *losses);

/* Bytes on a device like this at the peak of training p on images of this size. Nothing is
 * computed. */
int64_t autoencoder_step_memory(const struct parameters *p, const struct step_options *o,
                                const struct autoencoder_step_options *a, const struct device *like,
                                int height, int width);

/* For parameters_from_names_fixing: all but the decoder and post_quant_conv, so that latents keep
 * their meaning. */
bool autoencoder_is_encoder(const char *name);

#endif
