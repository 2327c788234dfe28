#ifndef CCLD_TRAIN_UPDATER_H
#define CCLD_TRAIN_UPDATER_H

#include <stdbool.h>

#include "common/train/collective.h"
#include "common/train/parameters.h"
#include "common/train/schedules.h"

/* The end of a training step, the same for every network: the ranks' gradients are summed, clipped,
 * and AdamW and the moving average go over the parameters in one pass. */

/* Of fp16: losses are multiplied by it before gradients are taken, so that these do not vanish; it
 * is halved when they overflow and doubled after 2000 updates without. 1 in other precisions. To be
 * saved and set again when a run is resumed in the same precision. */
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

/* The gradients in the parameters are those of the loss, mean over the effective batch, times
 * loss_scale.scale. Where they are not finite nothing is changed but them; else parameters->updates
 * counts, and working copies of the weights are the caller's to refresh. */
void updater_apply(struct updater *u, double learning_rate, double ema_decay,
                   struct update_result *result);
/* After each updater_apply. Returns true where too large a loss scale, which is smaller now, may be
 * why the update was not applied. */
bool updater_adjust_loss_scale(struct updater *u, bool applied);

#endif
