#ifndef CCLD_TRAIN_COLLECTIVE_H
#define CCLD_TRAIN_COLLECTIVE_H

#include <stdint.h>

#include "kernels/device.h"

/* Communication between the ranks of a training run: a table of functions, so that a step does not
 * depend on the transport. All ranks make the same calls in the same order and get identical bits.
 */
struct collective;

struct collective_functions {
    const char *name;
    /* x = sum over ranks, in place; device memory. */
    void (*allreduce)(struct collective *c, struct device *d, float *x, int64_t count);
    /* The same for a few doubles in host memory. */
    void (*allreduce_host)(struct collective *c, double *x, int64_t count);
    /* Returns when all ranks have called it. */
    void (*barrier)(struct collective *c);
    void (*close)(struct collective *c);
};

struct collective {
    const struct collective_functions *functions;
    int rank, size; /* 0 <= rank < size */
    void *state;
};

/* A run with a single rank. It need not be closed, but may be. */
struct collective *collective_alone(void);

void collective_allreduce(struct collective *c, struct device *d, float *x, int64_t count);
void collective_allreduce_host(struct collective *c, double *x, int64_t count);
void collective_barrier(struct collective *c);
void collective_close(struct collective *c); /* NULL is fine */

#endif
