#ifndef CCLD_TESTS_THREAD_RANKS_H
#define CCLD_TESTS_THREAD_RANKS_H

#include <pthread.h>

#include "common/train/collective.h"

/* The ranks of a training run as threads, each with its own CPU device. */
#define THREAD_RANKS_MAX 5

struct thread_ranks {
    int count;
    pthread_barrier_t barrier;
    const void *values[THREAD_RANKS_MAX]; /* the argument of each rank's call */
    struct collective collectives[THREAD_RANKS_MAX];
    struct device *devices[THREAD_RANKS_MAX];
};
/* t must stay in place until it is closed. */
void thread_ranks_open(struct thread_ranks *t, int count);
void thread_ranks_close(struct thread_ranks *t);

/* Calls run(args[i]) in rank i's thread and returns when all ranks have returned. */
void thread_ranks_run(const struct thread_ranks *t, void (*run)(void *arg), void *const *args);

#endif
