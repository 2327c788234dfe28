#ifndef CCLD_FIT_MEMORY_H
#define CCLD_FIT_MEMORY_H

#include "common/fit/loop.h"

/* The device memory that a run needs, for any network. Nothing is computed to find out. */

/* Bytes that the run needs on its device at the peak of a step. Prints a breakdown with -v. */
int64_t fit_memory(const struct fit_loop *f);

/* Fails if the device has less than `needed` bytes, fit_memory's result, for the run; the reason
 * names options that would make it fit. */
int fit_check_memory(const struct fit_loop *f, int64_t needed, struct error *e);

#endif
