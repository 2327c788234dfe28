#ifndef CCLD_BASE_MEMORY_LIMIT_H
#define CCLD_BASE_MEMORY_LIMIT_H

#include <stdint.h>

#include "common/base/error.h"

/* How much memory a process may still allocate, so that programs can refuse work that does not fit
 * before they begin it. Without that the kernel lends the memory and kills the process later. */

struct memory_limit {
    int64_t bytes;    /* INT64_MAX: no limit is known */
    const char *name; /* of what limits them, for messages: "cgroup limit" */
    int processes;    /* that have as much each */
};

/* The least of:
 * - the memory that is free or can be freed without swapping (MemAvailable in /proc/meminfo);
 * - for the process's cgroup and each of its ancestors: the limit less what is in use, where cached
 *   files do not count, since the kernel drops them first. Of version 2, memory.high limits as
 *   memory.max does: beyond it a process whose memory cannot be swapped nearly stands still;
 * - the limits of the process itself, on address space and data (ulimit -v and -d).
 * Swap does not count. The first two are divided among `processes`, processes of this host that
 * will need as much each. root: a folder with the files of /proc and /sys for tests, else "". */
struct memory_limit memory_limit_left(int processes, const char *root);

/* What a process needs that is to allocate `bytes`: adds what libraries, threads and unused parts
 * of larger blocks take. */
int64_t memory_needed(int64_t bytes);

/* Fails if `needed`, memory_needed's result, exceeds the limit: "training needs 38.2 GB, but 21.3
 * GB of memory is available (cgroup limit)". what: "training". */
int memory_limit_check(const struct memory_limit *l, const char *what, int64_t needed,
                       struct error *e);

/* With a limit on address space, keeps threads from reserving much of it that they never use. Call
 * it before threads are started. */
void memory_limit_prepare(void);

#endif
