#ifndef CCLD_TRAIN_STEP_H
#define CCLD_TRAIN_STEP_H

#include "common/train/updater.h"

/* What the training steps of all networks share. */

/* Of a U-Net's kernels; all else is AdamW's (common/train/muon.h). */
enum optimizer { OPTIMIZER_ADAMW, OPTIMIZER_MUON };
/* For option tables: in the order of the enum, then NULL. */
extern const char *const optimizers[];

struct step_options {
    uint64_t seed;
    int64_t batch;      /* samples of a micro-batch on this rank */
    int64_t accumulate; /* micro-batches of an update */
    double clip_grad;   /* largest L2 norm of the whole gradient; 0: not clipped */
    struct adamw_options adamw;
    int optimizer;  /* enum optimizer; an int for option tables; the U-Net only */
    bool recompute; /* recompute block activations in the backward pass; the U-Net only */
};

/* Samples of all ranks' micro-batches of an update. */
int64_t step_effective_batch(const struct step_options *o, const struct collective *c);
/* Position of the first sample of this rank's micro-batch k in the effective batch. */
int64_t step_position(const struct step_options *o, const struct collective *c, int64_t k);

/* Sums values of all ranks' samples in the order of their positions, the same on every rank.
 * values: [batch * accumulate][width] of this rank's samples; sums: [width]. */
void step_sum(const struct step_options *o, struct collective *c, const double *values, int width,
              double *sums);

/* A replay_agreement of the ranks of a struct collective: whether all have recorded. */
bool step_agree(void *collective, bool recorded);

/* Outcome of an update. */
struct step_result {
    double loss;          /* mean over the effective batch of all ranks */
    double gradient_norm; /* L2, of that loss, before clipping */
    bool applied;         /* false: loss or gradient not finite, the weights are unchanged */
    bool rescaled; /* not applied only because the loss scale was too large; it is now smaller */
    const uint64_t *suspects; /* samples of this rank that may have made an update fail: those whose
                                 own loss is not finite, or all if every loss is; valid until the
                                 next micro-batch */
    int64_t suspect_count;
};

/* Fills r except for its suspects and adjusts the loss scale. update: from updater_apply; loss:
 * mean over the effective batch; finite: whether every sample's loss is, on all ranks. Returns
 * whether the caller must name the suspects. */
bool step_judge(struct step_result *r, struct updater *u, const struct update_result *update,
                double loss, bool finite);

#endif
