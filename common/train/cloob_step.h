#ifndef CCLD_TRAIN_CLOOB_STEP_H
#define CCLD_TRAIN_CLOOB_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/cloob.h"
#include "common/train/step.h"

/* One update of CLOOB's two towers on the Hopfield and InfoLOOB loss (common/train/loss.h), which
 * holds every pair of the effective batch against all others of it. What it needs of a pair are its
 * embeds only, so more pairs than fit into memory at once are done in micro-batches that run twice:
 * first for their embeds; then, when the loss' gradients by all embeds are known, once more for the
 * gradients by the weights (Gao et al., "Scaling deep contrastive learning batch size under memory
 * limited setup", arXiv 2101.06983). The last micro-batch, or the only one, runs once. Nothing is
 * random. Pair i of micro-batch k of rank r is row (k * ranks + r) * batch + i of the loss.
 * An image tower of which the parameters trains nothing runs once and not back (Zhai et al., "LiT:
 * Zero-shot transfer with locked-image text tuning", CVPR 2022). */

struct cloob_step_options {
    double inv_tau, scale_hopfield;
};
/* Of the reference's models. */
#define CLOOB_INV_TAU        30.0
#define CLOOB_SCALE_HOPFIELD 15.0

/* Host memory, read during the call only. */
struct cloob_batch {
    int64_t n;
    const float *images;     /* [n, 3, S, S] in [0, 1], as cloob_image takes them */
    const int32_t *tokens;   /* [n, context], as cloob_text takes them */
    const uint64_t *samples; /* [n] numbers of the pairs, for reports; NULL in an evaluation */
};

/* For parameters_from_names_fixing. */
bool cloob_is_image_tower(const char *name);

struct cloob_step;

/* p, c must outlive s. Fails when p is not a CLOOB with both towers. o->seed is not used. */
int cloob_step_open(struct cloob_step **s, struct parameters *p, struct collective *c,
                    const struct step_options *o, const struct cloob_step_options *l,
                    struct error *e);
void cloob_step_close(struct cloob_step *s); /* NULL is fine */

struct updater *cloob_step_updater(struct cloob_step *s);
const struct cloob_sizes *cloob_step_sizes(const struct cloob_step *s);

/* The next micro-batch; n is the options' batch. The images of all but the last are kept on the
 * host until the update. */
void cloob_step_micro_batch(struct cloob_step *s, const struct cloob_batch *b);

/* After `accumulate` micro-batches: loss and gradients, which are in the parameters then, the same
 * for every rank. cloob_step_update does this first. */
void cloob_step_gradients(struct cloob_step *s);
/* Then sums over ranks, checks, clips, updates parameters and EMA in one pass; b->updates counts
 * it. Non-finite anywhere: nothing is changed but the gradients. */
void cloob_step_update(struct cloob_step *s, double learning_rate, double ema_decay,
                       struct step_result *r);
/* Mean cosine of the image and the text embedding of a pair over the last update's effective batch.
 */
double cloob_step_cosine(const struct cloob_step *s);

/* Embeds [n, d] of both kinds, any n. which: ARRAY_WEIGHTS or ARRAY_EMA. */
void cloob_step_embed(struct cloob_step *s, enum parameter_array which, const struct cloob_batch *b,
                      float *images, float *texts);

/* How well n pairs find one another: loss, mean cosine of pairs, and the shares of images whose
 * own text is nearest of all n, and of texts whose own image is. image, text: [n, d], rows of
 * length 1, n >= 2. */
struct cloob_scores {
    double loss, cosine, image_to_text, text_to_image;
};
struct cloob_scores cloob_step_score(struct cloob_step *s, const float *images, const float *texts,
                                     int64_t n);

/* Bytes on a device like this at the peak of training: arrays, activations of a step, and of an
 * evaluation of `evaluated` pairs at a time (0: none). Nothing is computed. */
int64_t cloob_step_memory(const struct architecture *architecture, const struct step_options *o,
                          const struct cloob_step_options *l, const struct device *like,
                          int64_t evaluated);

#endif
