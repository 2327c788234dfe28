#ifndef CCLD_FIT_RANKS_H
#define CCLD_FIT_RANKS_H

#include <signal.h>
#include <stdbool.h>

#include "common/train/collective_shared.h"

/* The ranks of a run on one host, each a process of its own, and the process that supervises them:
 *
 * - SIGINT, SIGTERM, SIGUSR1 or SIGHUP to the supervisor sets *stop in all ranks; a second one but
 *   SIGHUP kills them (common/program/stop.h). Ranks block these signals and stand in process
 * groups of their own, so that Ctrl-C on a terminal reaches the supervisor only.
 * - A rank that is killed or fails ends all others within two seconds; the supervisor names it if
 *   it was killed.
 * - A rank that hangs or is stopped (SIGSTOP) ends all as well, once others have waited for it for
 *   too long (common/train/watchdog.h), and is named.
 * - If the supervisor is killed, so are the ranks. */

struct ranks {
    struct collective *collective;
    const volatile sig_atomic_t *stop; /* the signal; 0: none */
    int report;                        /* standard error while a rank is silent */
    bool patient;   /* set it before ranks_start: a rank may take any time to answer a stop */
    bool launched;  /* by mpirun or srun (common/fit/launched.h) */
    char host[64];  /* if launched, as are the next two */
    int host_rank;  /* number among the ranks of this host */
    int host_ranks; /* ranks of each host, which are consecutive; 0: it is not so */
};

/* Forks `count` ranks and returns in each of them; the calling process becomes the supervisor and
 * ends when they have ended. Cores are divided among ranks. read_stdin: ranks will read standard
 * input; each gets a copy of all of it. Ranks other than the first are silent until ranks_ready:
 * all would say the same; the supervisor prints what they said if one fails alone. */
void ranks_start(struct ranks *r, int count, bool read_stdin);

/* From now on, all ranks print warnings and errors, prefixed with their number, and their host if
 * they were launched, unless the number is 0. */
void ranks_ready(struct ranks *r, const char *program);

#endif
