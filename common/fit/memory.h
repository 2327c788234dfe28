#ifndef CCLD_FIT_MEMORY_H
#define CCLD_FIT_MEMORY_H

#include "common/fit/loop.h"

/* The memory that a run needs, for any network. Nothing is computed to find out, and of
 * f->parameters only names and shapes are looked at: they may be on a dry device. */

/* Bytes that a rank needs on device d at the peak of a step; on the CPU, all that its process
 * needs. Prints a breakdown with -v. */
int64_t fit_memory(const struct fit_loop *f, const struct device *d);

/* Fails if a rank's device has less than `needed` bytes, fit_memory's result, for the run; the
 * reason names options that would make it fit. All ranks call it, before they allocate anything,
 * and get the same result. */
int fit_check_memory(const struct fit_loop *f, struct device *d, int64_t needed, struct error *e);

#endif
