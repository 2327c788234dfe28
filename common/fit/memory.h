#ifndef CCLD_FIT_MEMORY_H
#define CCLD_FIT_MEMORY_H

#include "common/fit/loop.h"

/* Device memory of a run, for any network: arithmetic on a device that computes nothing. */

/* Bytes that the run needs on its device at the peak of a step. With -v prints what they are for.
 */
int64_t fit_memory(const struct fit_loop *f);

/* Fails if the device has less than `needed` (fit_memory's) for the run; the reason names options
 * that would make it fit. */
int fit_check_memory(const struct fit_loop *f, int64_t needed, struct error *e);

#endif
