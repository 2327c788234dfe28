#ifndef CCLD_TRAIN_COLLECTIVE_H
#define CCLD_TRAIN_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "kernels/tensor.h"

/* Communication between the ranks of a training run: a table of functions, so that a step does not
 * depend on the transport. All ranks make the same calls in the same order and get identical bits,
 * which do not depend on how a sum is divided among ranks: sums have an order. */
struct collective;

struct collective_functions {
    const char *name;
    /* all: [size] parts of `bytes` in the order of the ranks; part r is rank r's `own`. Host
     * memory. */
    void (*gather)(struct collective *c, const void *own, void *all, size_t bytes);
    /* total = ((total + own of rank 0) + own of rank 1) + ...; if `first`, total starts as rank 0's
     * own. F32 tensors of equal counts on the rank's device; total is the same on all ranks. */
    void (*add)(struct collective *c, struct tensor *total, const struct tensor *own, bool first);
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
/* The first of `size` ranks of which the others do not exist: what they send is what it sends. For
 * dry runs that find out how much memory is needed. Not to be closed. */
struct collective collective_dry(int size);

void collective_gather(struct collective *c, const void *own, void *all, size_t bytes);
void collective_add(struct collective *c, struct tensor *total, const struct tensor *own,
                    bool first);
/* x = sum over ranks in their order; a few doubles in host memory. */
void collective_sum(struct collective *c, double *x, int count);
void collective_barrier(struct collective *c);
void collective_close(struct collective *c); /* NULL is fine */

#endif
