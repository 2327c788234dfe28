#ifndef CCLD_TRAIN_CLOOB_STEP_H
#define CCLD_TRAIN_CLOOB_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/cloob.h"
#include "common/train/step.h"

/* One update of CLOOB's two towers on the Hopfield and InfoLOOB loss (the op cloob_loss), which
 * contrasts every image-caption pair of the effective batch with all others in it. The loss needs
 * only the pairs' embeddings. So an effective batch too large for memory is processed in
 * micro-batches that run twice: first for their embeddings, then, once the loss's gradients by all
 * embeddings are known, for the gradients by the weights (Gao et al., "Scaling deep contrastive
 * learning batch size under memory limited setup", arXiv 2101.06983). The last or only micro-batch
 * runs once. Nothing is random. Pair i of micro-batch k on rank r is row (k * ranks + r) * batch +
 * i of the loss. An image tower with no trained tensors runs forward once and never backward (Zhai
 * et al., "LiT: Zero-shot transfer with locked-image text tuning", CVPR 2022). */

struct cloob_step_options {
    double inv_tau, scale_hopfield;
};
/* As in the reference's models. */
#define CLOOB_INV_TAU        30.0
#define CLOOB_SCALE_HOPFIELD 15.0

/* Host memory, read only during the call. */
struct cloob_batch {
    int64_t n;
    const float *images;     /* [n, 3, S, S] in [0, 1], for cloob_image */
    const int32_t *tokens;   /* [n, context], for cloob_text */
    const uint64_t *samples; /* [n] numbers of the pairs, to name suspects; NULL in an evaluation */
};

/* For parameters_from_names. */
bool cloob_is_image_tower(const char *name);

struct cloob_step;

/* p and c must outlive the step. Fails if p is not a CLOOB with both towers. o->seed is not used.
 */
int cloob_step_open(struct cloob_step **out, struct parameters *p, struct collective *c,
                    const struct step_options *o, const struct cloob_step_options *l,
                    struct error *e);
void cloob_step_close(struct cloob_step *s); /* NULL is fine */

struct updater *cloob_step_updater(struct cloob_step *s);
const struct cloob_sizes *cloob_step_sizes(const struct cloob_step *s);
const struct cloob_step_options *cloob_step_loss_options(const struct cloob_step *s);

/* The next micro-batch; b->n is the options' batch. Keeps the images of all but the last on the
 * host until the update. The last runs with cloob_step_gradients. */
void cloob_step_micro_batch(struct cloob_step *s, const struct cloob_batch *b);

/* After `accumulate` micro-batches: computes the loss, the same on every rank, and leaves this
 * rank's gradients in the parameters. cloob_step_update calls this if the caller has not. */
void cloob_step_gradients(struct cloob_step *s);
/* Sums the gradients over ranks, checks and clips them and updates weights, moments and EMA in one
 * pass; counts the update in p->updates. If the loss or a gradient is not finite, only the
 * gradients change. */
void cloob_step_update(struct cloob_step *s, double learning_rate, double ema_decay,
                       struct step_result *r);
/* Mean cosine between the image and text embedding of a pair, over the last update's effective
 * batch. */
double cloob_step_cosine(const struct cloob_step *s);

/* Computes the embeddings, [n, d] of each kind, of any number n of pairs. which: ARRAY_WEIGHTS or
 * ARRAY_EMA. */
void cloob_step_embed(struct cloob_step *s, enum parameter_array which, const struct cloob_batch *b,
                      float *image_embeds, float *text_embeds);

/* Retrieval scores of n >= 2 pairs: the loss, the mean cosine of pairs, the fraction of images
 * whose own text is the nearest of all n, and the fraction of texts whose own image is. Embeddings:
 * [n, d], rows of length 1. */
struct cloob_scores {
    double loss, cosine, image_to_text, text_to_image;
};
struct cloob_scores cloob_step_score(struct cloob_step *s, const float *image_embeds,
                                     const float *text_embeds, int64_t n);

/* Peak memory in bytes of training with `ranks` ranks on a device like `like`: the arrays, a step's
 * activations and those of an evaluation of `evaluated` pairs per batch (0: no evaluation).
 * Computes nothing. */
int64_t cloob_step_memory(const struct architecture *architecture, const struct step_options *o,
                          const struct cloob_step_options *l, const struct device *like, int ranks,
                          int64_t evaluated);

#endif
