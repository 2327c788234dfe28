#ifndef CCLD_TESTS_COLLECTIVE_CHECKS_H
#define CCLD_TESTS_COLLECTIVE_CHECKS_H

#include "common/train/collective.h"

/* Checks of a collective with 1 to COLLECTIVE_RANKS_MAX ranks: all get the same bits, which are
 * those of sums in order. */
#define COLLECTIVE_RANKS_MAX 5

/* All ranks call it. Returns a bit for each kind of failure. */
int collective_check(struct collective *c);
/* Reports each kind; failed: the bits of all ranks. */
void collective_report(int ranks, int failed);

#endif
