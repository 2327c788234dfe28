#ifndef CCLD_BASE_OPTION_HINTS_H
#define CCLD_BASE_OPTION_HINTS_H

#include <stddef.h>

#include "common/base/options.h"

/* What to say about an option that a program does not have: the option of ours that does what one
 * of another project with this name does, or the one with the nearest spelling. Returns "", or
 * ": did you mean '--guidance'?", malloc'ed. name is without dashes and need not end at n. */
char *option_hint(const struct program *program, const char *name, size_t n);

#endif
