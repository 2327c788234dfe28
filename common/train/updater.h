#ifndef CCLD_TRAIN_UPDATER_H
#define CCLD_TRAIN_UPDATER_H

#include <stdbool.h>

#include "common/train/collective.h"
#include "common/train/parameters.h"
#include "common/train/schedules.h"
#include "kernels/tape.h"

/* The end of a training step, the same for every network: sums gradients, clips them, and updates
 * weights, moments and EMA in one pass. Each rank sums and updates the slices that it owns
 * (common/train/slices.h) and gets the others' weights.
 *
 * EMA takes in the weights of two updates with every second one (parameters_settle_ema), which
 * halves its part of the memory traffic and changes no bit.
 *
 * The gradient of an update is the sum of those of its micro-batches in their order, ((g0 + g1) +
 * g2) + ..., where micro-batch k of rank r is number k * ranks + r. So its bits depend on the
 * effective batch and the size of a micro-batch, but not on how many ranks share the work. */

/* The loss scale of fp16; 1 in other precisions. Losses are multiplied by it before backward so
 * that gradients do not underflow. It is halved when gradients overflow and doubled after 2000
 * updates without overflow. A run saves it and sets it again when resumed in the same precision. */
#define LOSS_SCALE_MOST 16777216.0
struct loss_scale {
    double scale;    /* 1 to LOSS_SCALE_MOST */
    int64_t updates; /* since it was changed */
};

struct muon;
struct updater {
    struct parameters *parameters;
    struct collective *collective;
    struct adamw_options adamw;
    struct muon *muon;  /* NULL: AdamW for all */
    const float *steps; /* Muon's, of this update */
    double clip;        /* largest L2 norm of the whole gradient; 0: not clipped */
    struct loss_scale loss_scale;
    int64_t added; /* micro-batches of this rank in the sum */
    bool direct; /* the backward pass writes into the sum: the first micro-batch of a single rank */

    struct tape_watcher watcher;
    int64_t *missing; /* [buckets]: elements whose gradient is not complete; 0: has been sent */
    int64_t *bounds;  /* [shards + 1] */
    struct tensor *squares;
    struct update_copies copies; /* table NULL: updater_write_copies */
    const struct tensor *fetch;  /* with the next result */
    float *fetched;
    int *completion; /* see updater_record_completion */
    int completed;
};
/* accumulate: micro-batches of an update on each rank. Shards p's arrays among the ranks of c if
 * they are not, and splits p's gradients unless there is only one micro-batch on one rank; call it
 * before parameters_bind. Release it before p. */
void updater_init(struct updater *u, struct parameters *p, struct collective *c,
                  const struct adamw_options *adamw, double clip, int64_t accumulate);
/* From now on, Muon updates a U-Net's kernels (common/train/muon.h), which must come
 * first (parameters_kernels_first). Call it before updater_write_copies. Updates then wait for the
 * norm of the gradients before they start. */
void updater_use_muon(struct updater *u);
void updater_release(struct updater *u); /* zeroed is fine */
void updater_set_loss_scale(struct updater *u, struct loss_scale l);

/* The gradient of this rank's next micro-batch is its part of the gradient of the mean loss over
 * the effective batch, times loss_scale.scale.
 *
 * updater_aim: call it before the backward pass, or a replay of it, of the network that l loaded
 * (parameters_bind). updater_watch: sums each bucket of gradients as soon as the next backward pass
 * of t has completed it; there must be no further one that adds to the same parameters.
 * updater_sum: sums the buckets that are left. Both may be part of replayed work
 * (kernels/replay.h), a replay for first and one for further micro-batches. updater_count, which is
 * not: the micro-batch is done. */
void updater_aim(struct updater *u, struct loader *l);
void updater_watch(struct updater *u, struct tape *t);
void updater_sum(struct updater *u);
void updater_count(struct updater *u);
static inline bool updater_is_at_first(const struct updater *u)
{
    return u->added == 0;
}

/* Stores the order in which gradients are completed from now on: completion[i], for trained tensor
 * i of the parameters, counts from 0; INT_MAX for those that have not been (parameters_place). */
void updater_record_completion(struct updater *u, int *completion);

/* From now on, updates write the working copies of what l loaded from the parameters' weights, so
 * that no loader_refresh is needed after them; and if there is only one micro-batch, gradients of
 * kernels and matrices, each of which a pass must use once, are compact (parameters_compact). Does
 * nothing if there are no copies or other ranks update a part of the weights. l must have been
 * bound (parameters_bind) and refreshed, and must keep its copies. */
void updater_write_copies(struct updater *u, const struct loader *l);
static inline bool updater_writes_copies(const struct updater *u)
{
    return u->copies.table != NULL;
}
/* The next updater_apply also downloads this F32 tensor, without waiting for the update itself. */
void updater_fetch(struct updater *u, const struct tensor *t, float *to);

/* Applies an update after all micro-batches were added. If the sum is not finite, nothing else
 * changes. Otherwise p->updates is counted up, and the caller must refresh any working copies of
 * the weights. */
void updater_apply(struct updater *u, double learning_rate, double ema_decay,
                   struct update_result *result);
/* Call after each updater_apply. Returns true if the update may have failed because the loss scale
 * was too large; it is then smaller. */
bool updater_adjust_loss_scale(struct updater *u, bool applied);

#endif
