#ifndef CCLD_RUN_OPTIONS_H
#define CCLD_RUN_OPTIONS_H

#include "common/base/options.h"
#include "common/run/checkpoint.h"

/* How a run that goes on gets the options it began with. */

/* Puts the values of all the program's options, and of --device, --threads and --precision, into
 * s; those in `except` (names, NULL at the end) and those without a value are left out. */
void saved_options_store(struct training_state *s, const struct program *p,
                         const char *const *except);

/* Sets the program's options to the values in s, but not those of the command line nor those in
 * `except`. Strings in s must outlive their use. Returns what the command line changed,
 * "--lr 3e-06 instead of 3e-05, --steps 300 instead of 200", malloc'ed; NULL for nothing. */
char *saved_options_restore(const struct training_state *s, const struct program *p,
                            const char *const *except);

/* Lists of operands: NAME-1, NAME-2 and so on. Paths are made absolute where they can be. */
void saved_paths_store(struct training_state *s, const char *name, int count,
                       const char *const *paths);
/* Their number; *paths is malloc'ed, what it points to belongs to s. */
int saved_paths_find(const struct training_state *s, const char *name, const char ***paths);

#endif
