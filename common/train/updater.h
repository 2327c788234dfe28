#ifndef CCLD_TRAIN_UPDATER_H
#define CCLD_TRAIN_UPDATER_H

#include <stdbool.h>

#include "common/train/collective.h"
#include "common/train/parameters.h"
#include "common/train/schedules.h"

/* The end of a training step, the same for every network: sums the ranks' gradients, clips them,
 * and updates weights, moments and EMA in one pass. */

/* The loss scale of fp16; 1 in other precisions. Losses are multiplied by it before backward so
 * that gradients do not underflow. It is halved when gradients overflow and doubled after 2000
 * updates without overflow. A run saves it and sets it again when resumed in the same precision. */
struct loss_scale {
    double scale;
    int64_t updates; /* since it was changed */
};

struct updater {
    struct parameters *parameters;
    struct collective *collective;
    struct adamw_options adamw;
    double clip; /* largest L2 norm of the whole gradient; 0: not clipped */
    struct loss_scale loss_scale;
};
void updater_init(struct updater *u, struct parameters *p, struct collective *c,
                  const struct adamw_options *adamw, double clip);
void updater_set_loss_scale(struct updater *u, struct loss_scale l);

/* Applies an update. The gradients in the parameters are this rank's part of those of the mean loss
 * over the effective batch, times loss_scale.scale. If their sum is not finite, nothing else
 * changes. Otherwise p->updates is counted up, and the caller must refresh any working copies of
 * the weights. */
void updater_apply(struct updater *u, double learning_rate, double ema_decay,
                   struct update_result *result);
/* Call after each updater_apply. Returns true if the update may have failed because the loss scale
 * was too large; it is then smaller. */
bool updater_adjust_loss_scale(struct updater *u, bool applied);

#endif
