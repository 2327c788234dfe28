#ifndef CCLD_FIT_PEERS_H
#define CCLD_FIT_PEERS_H

#include "common/train/collective.h"

/* Launched ranks of one host watch one another: some launchers take long to end a job, since they
 * let ranks end by themselves first, which wait for the one that has died. */

/* All ranks call it. A thread calls end a second after another rank of this host has ended, unless
 * peers_expect_end was called by then. first: this is the first of the host's other ranks, for
 * messages. A rank that cannot be watched, say by an old kernel, is not. */
void peers_watch(struct collective *c, void (*end)(int rank, int process, bool first));
void peers_expect_end(void);

#endif
