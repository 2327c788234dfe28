#ifndef CCLD_TRAIN_UNET_STEP_H
#define CCLD_TRAIN_UNET_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/unet.h"
#include "common/train/step.h"

/* One update of a U-Net on the v-objective: forward and backward of micro-batches, the sum over
 * ranks, clipping, AdamW and EMA. Everything random is a pure function of (seed, step, position or
 * sample), so a run needs no random state to resume:
 *   t: Sobol element number step * effective batch + position in the batch;
 *   whether an embedding is dropped, its noise, the posterior's and the diffusion's noise: by the
 *     sample's global index.
 * The position of image i of micro-batch k on rank r is (k * ranks + r) * batch + i. */

struct unet_step_options {
    double uncond_prob;       /* probability that an embedding is dropped: replaced with zeros */
    double embed_noise;       /* added to the other embeddings, relative to their length
                                 (common/diffusion/embed_noise.h) */
    double autoencoder_scale; /* divisor of latents */
};

/* Host memory, read only during the call. */
struct unet_batch {
    int64_t n, height, width;
    const float *moments;    /* [n, 2z, h, w]: means, log-variances */
    const float *embeds;     /* [n, d] */
    const uint64_t *samples; /* [n] global indices: of the record among all records */
};

struct unet_step_sample {
    uint64_t sample; /* as in unet_batch */
    float t, loss;   /* loss: mean over the image of (v - target)^2 */
    bool dropped;    /* trained as unconditional */
};

struct unet_step;

/* p and c must outlive the step. Fails if p is not a U-Net. */
int unet_step_open(struct unet_step **out, struct parameters *p, struct collective *c,
                   const struct step_options *o, const struct unet_step_options *u,
                   struct error *e);
void unet_step_close(struct unet_step *s); /* NULL is fine */

struct updater *unet_step_updater(struct unet_step *s);
const struct unet_sizes *unet_step_sizes(const struct unet_step *s);

/* Forward and backward of the next micro-batch of step `step` (from 0, below 2^26); b->n is the
 * options' batch. Gradients accumulate until unet_step_update. */
void unet_step_micro_batch(struct unet_step *s, int64_t step, const struct unet_batch *b);

/* The same with given random values: t and dropped from samples[n], noise [n, z, h, w];
 * embeddings are used as they are. */
struct unet_step_noise {
    struct tensor *posterior, *diffusion;
};
void unet_step_micro_batch_drawn(struct unet_step *s, const struct unet_batch *b,
                                 const struct unet_step_noise *noise,
                                 const struct unet_step_sample *samples);

/* After `accumulate` micro-batches: sums gradients over ranks, checks and clips them and updates
 * weights, moments and EMA in one pass; counts the update in p->updates. If a gradient is not
 * finite, only the gradients change. */
void unet_step_update(struct unet_step *s, double learning_rate, double ema_decay,
                      struct step_result *r);
/* The samples of this rank's last update in order, batch * accumulate of them; valid until the next
 * micro-batch. */
const struct unet_step_sample *unet_step_samples(const struct unet_step *s);

/* Computes the losses of any number n of held-out images, always the same for the same weights.
 * Image i has position first + i among them, which determines t (Sobol, with a scramble of its
 * own); noise depends on the sample's index. which: ARRAY_WEIGHTS or ARRAY_EMA. Fills samples[n].
 */
void unet_step_evaluate(struct unet_step *s, enum parameter_array which, const struct unet_batch *b,
                        int64_t first, struct unet_step_sample *samples);

/* Peak memory in bytes of training with `ranks` ranks on a device like `like`: the arrays and a
 * step's activations, and those of an evaluation too if the step's stay allocated. Computes
 * nothing. */
int64_t unet_step_memory(const struct architecture *architecture, const struct step_options *o,
                         const struct unet_step_options *u, const struct device *like, int ranks,
                         int64_t height, int64_t width);

#endif
