#ifndef CCLD_TRAIN_CLOOB_GATHER_H
#define CCLD_TRAIN_CLOOB_GATHER_H

#include "common/train/step.h"

/* Fills in the rows of the other ranks. embeds: F32 [effective batch, d], with this rank's rows at
 * step_position. If cloob_gather_is_on_device, the devices exchange the rows, up to
 * collective_join, which may be part of replayed work (kernels/replay.h); ranks on several hosts do
 * it through the hosts' memory. */
void cloob_gather(struct collective *c, const struct step_options *o, struct tensor *embeds);
bool cloob_gather_is_on_device(const struct collective *c);

#endif
