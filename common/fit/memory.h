#ifndef CCLD_FIT_MEMORY_H
#define CCLD_FIT_MEMORY_H

#include "common/fit/unet.h"

/* Bytes that the run needs on its device at the peak of a step. With -v says what they are for. */
int64_t fit_memory(const struct fit *f);

/* Fails when the device has less than `needed` (fit_memory's) for the run; the reason says which
 * options would make it fit. */
int fit_check_memory(const struct fit *f, int64_t needed, struct error *e);

/* The same for any network: needed(context, batch, accumulate) are the bytes that a run would need
 * with these in place of its own. */
int fit_check_batch_memory(struct device *d, int64_t batch, int64_t accumulate,
                           int64_t (*needed)(const void *context, int64_t batch,
                                             int64_t accumulate),
                           const void *context, struct error *e);

#endif
