#ifndef CCLD_TESTS_GOLDEN_GRADIENTS_H
#define CCLD_TESTS_GOLDEN_GRADIENTS_H

#include "common/train/parameters.h"
#include "tests/support/golden.h"

/* Compares the gradients of all trained tensors with gnorm.NAME and ghead.NAME of a golden file: a
 * TAP line for their norms, and one for their first elements. scale: what ours are multiplied by.
 * how: of the computation, for the lines, e.g. "in one batch". */
void golden_gradients_check(const struct golden *g, const struct parameters *p, double scale,
                            const char *how);

#endif
