#ifndef CCLD_TRAIN_COLLECTIVE_H
#define CCLD_TRAIN_COLLECTIVE_H

#include <stdint.h>

#include "kernels/device.h"

/* What the ranks of a training run tell each other. A table of functions, so that the step need not
 * know what carries it. All ranks make the same calls in the same order, and every rank gets the
 * same bits. */
struct collective;

struct collective_functions {
    const char *name;
    /* x = sum over ranks, in place; memory of the device. */
    void (*allreduce)(struct collective *c, struct device *d, float *x, int64_t count);
    /* The same for a few doubles in host memory. */
    void (*allreduce_host)(struct collective *c, double *x, int64_t count);
    /* x of rank `root` to all; memory of the device. */
    void (*broadcast)(struct collective *c, struct device *d, float *x, int64_t count, int root);
    void (*barrier)(struct collective *c);
    void (*close)(struct collective *c);
};

struct collective {
    const struct collective_functions *functions;
    int rank, size; /* 0 <= rank < size */
    void *state;
};

/* One rank: itself. Nothing to close, but closing is fine. */
struct collective *collective_alone(void);

void collective_allreduce(struct collective *c, struct device *d, float *x, int64_t count);
void collective_allreduce_host(struct collective *c, double *x, int64_t count);
void collective_broadcast(struct collective *c, struct device *d, float *x, int64_t count,
                          int root);
void collective_barrier(struct collective *c);
void collective_close(struct collective *c); /* NULL is fine */

#endif
