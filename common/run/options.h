#ifndef CCLD_RUN_OPTIONS_H
#define CCLD_RUN_OPTIONS_H

#include "common/base/options.h"
#include "common/run/checkpoint.h"

/* A run's options in its state, so that a resumed run gets those it was started with. */

/* Stores the values of all the program's options and of --device, --threads, --precision and --tf32
 * in s, except those named in `except` (which ends with NULL) and those without a value. Files and
 * folders become absolute paths. */
void run_options_store(struct training_state *s, const struct program *p,
                       const char *const *except);

/* Sets the same options to their values in s, except those given on the command line. The options
 * borrow their strings from s. Returns what the command line changes, malloc'ed: "--lr 3e-06
 * instead of 3e-05, --steps 300 instead of 200"; NULL if nothing. */
char *run_options_restore(const struct training_state *s, const struct program *p,
                          const char *const *except);

/* A list of operands, stored as NAME-1, NAME-2 and so on. Paths that exist become absolute. */
void run_paths_store(struct training_state *s, const char *name, int count,
                     const char *const *paths);
/* Returns their number; *paths is malloc'ed, but the strings belong to s. */
int run_paths_find(const struct training_state *s, const char *name, const char ***paths);

#endif
