#ifndef CCLD_TRAIN_UNET_STEP_H
#define CCLD_TRAIN_UNET_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/unet.h"
#include "common/train/step.h"

/* One update of a U-Net on the v-objective: micro-batches forward and backward, the ranks' sum,
 * clipping, AdamW and the moving average. Everything random is a pure function of (seed, step,
 * position or sample), so nothing has to be saved to go on where a run stopped:
 *   t          Sobol element number step * effective batch + position in it;
 *   dropping   of the embed, its noise, posterior's and diffusion's noise: by the sample's global
 *              index.
 * Position of image i of micro-batch k on rank r is (k * ranks + r) * batch + i. */

struct unet_step_options {
    double uncond_prob;       /* probability that an embed is zeroed */
    double embed_noise;       /* added to the others, times their length: see common/diffusion */
    double autoencoder_scale; /* latents are divided by it */
};

/* Host memory, read during the call only. */
struct unet_batch {
    int64_t n, height, width;
    const float *moments;    /* [n, 2z, h, w]: means, log-variances */
    const float *embeds;     /* [n, d] */
    const uint64_t *samples; /* [n] global indices: of the record among all records */
};

struct unet_step_sample {
    uint64_t sample; /* as given in unet_batch */
    float t, loss;   /* loss: mean over the image of (v - target)^2 */
    bool dropped;    /* trained as unconditional */
};

struct unet_step;

/* p, c must outlive s. Fails when p is not a U-Net. */
int unet_step_open(struct unet_step **s, struct parameters *p, struct collective *c,
                   const struct step_options *o, const struct unet_step_options *u,
                   struct error *e);
void unet_step_close(struct unet_step *s); /* NULL is fine */

struct updater *unet_step_updater(struct unet_step *s);
const struct unet_sizes *unet_step_sizes(const struct unet_step *s);

/* Forward and backward of the next micro-batch of step `step` (from 0, below 2^26); n is the
 * options' batch. Gradients add up until unet_step_update. */
void unet_step_micro_batch(struct unet_step *s, int64_t step, const struct unet_batch *b);

/* The same with what is random given: t and dropped are taken from samples (n of them), the noises
 * are [n, z, h, w]; embeds are taken as they are. */
struct unet_step_noise {
    struct tensor *posterior, *diffusion;
};
void unet_step_micro_batch_drawn(struct unet_step *s, const struct unet_batch *b,
                                 const struct unet_step_noise *noise,
                                 const struct unet_step_sample *samples);

/* After `accumulate` micro-batches: sums over ranks, checks, clips, updates parameters and EMA in
 * one pass; p->updates counts it. Non-finite anywhere: nothing is changed but the gradients. */
void unet_step_update(struct unet_step *s, double learning_rate, double ema_decay,
                      struct step_result *r);
/* The samples of this rank's last update in order, batch * accumulate of them; valid until the next
 * micro-batch. */
const struct unet_step_sample *unet_step_samples(const struct unet_step *s);

/* Losses of held-out images, always the same for the same weights: image i has position first + i
 * among them, from which its time follows (Sobol, of its own scramble); noise by sample index. Any
 * n. which: ARRAY_WEIGHTS or ARRAY_EMA. samples: n of them, filled. */
void unet_step_evaluate(struct unet_step *s, enum parameter_array which, const struct unet_batch *b,
                        int64_t first, struct unet_step_sample *samples);

/* Bytes on a device like this at the peak of training: arrays and activations of a step, and of an
 * evaluation where those of the step stay. Nothing is computed. */
int64_t unet_step_memory(const struct architecture *architecture, const struct step_options *o,
                         const struct unet_step_options *u, const struct device *like,
                         int64_t height, int64_t width);

#endif
