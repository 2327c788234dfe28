#ifndef CCLD_TESTS_THREAD_RANKS_H
#define CCLD_TESTS_THREAD_RANKS_H

#include <pthread.h>

#include "common/train/collective.h"

/* The ranks of a training run as threads, each with its own CPU device. Rank 0 computes the
 * sums, in the order of the ranks. */
#define THREAD_RANKS 2

struct thread_ranks {
    pthread_barrier_t barrier;
    void *values[THREAD_RANKS]; /* the argument of each rank's call */
    struct collective collectives[THREAD_RANKS];
    struct device *devices[THREAD_RANKS];
};
void thread_ranks_open(struct thread_ranks *t); /* t must stay in place until it is closed */
void thread_ranks_close(struct thread_ranks *t);

/* Calls run(args[i]) in rank i's thread and returns when all ranks have returned. */
void thread_ranks_run(void (*run)(void *arg), void *const args[THREAD_RANKS]);

#endif
