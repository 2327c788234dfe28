#ifndef CCLD_BASE_COMPLETION_H
#define CCLD_BASE_COMPLETION_H

#include <stdbool.h>

#include "common/base/options.h"

/* Prints to stdout what completes the program's command line in a shell: "bash", "zsh" or "fish".
 * Options come from its table and `common`, subcommands from its usage. Operands are files. Returns
 * false for another shell. */
bool completion_print(const struct program *p, const struct option *common, const char *shell);

#endif
