#ifndef CCLD_FIT_LAUNCHED_H
#define CCLD_FIT_LAUNCHED_H

#include <signal.h>
#include <stdbool.h>

#include "common/fit/ranks.h"

/* Ranks that a launcher has started, mpirun or srun, on any number of hosts: this process is one of
 * them. No supervisor watches them:
 *
 * - The launcher ends all if one dies; those of its host end by themselves (common/fit/peers.h).
 * - Each has a watchdog thread, which ends it if it waits for others for too long
 *   (common/train/watchdog.h).
 * - Ranks other than the first are silent until ranks_ready. One that ends before prints what it
 *   said, unless the launcher ends it within a second, because the first has failed as well. */

/* Joins the other ranks and sets *r, for ranks_ready; false: this process was not started as one of
 * several. Ends the program if it cannot join. */
bool launched_join(struct ranks *r);

/* With all options in force: divides cores among the ranks that may run on the same ones, starts
 * the watchdog. read_stdin: all ranks get what the first one reads from standard input. */
void launched_start(struct ranks *r, const volatile sig_atomic_t *stop, bool read_stdin);
/* From now on ranks may end: call it before closing the collective. */
void launched_end(void);

#endif
