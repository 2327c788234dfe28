#ifndef CCLD_TRAIN_COLLECTIVE_H
#define CCLD_TRAIN_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "kernels/group.h"

/* Communication between the ranks of a training run: a table of functions, so that a step does not
 * depend on the transport. All ranks make the same calls in the same order and get identical bits,
 * which do not depend on how a sum is divided among ranks: sums have an order. */
struct collective;

struct collective_functions {
    const char *name;
    /* Host memory. all: [size] parts of `bytes` in the order of the ranks; part r is rank r's
     * `own`. */
    void (*gather)(struct collective *c, const void *own, void *all, size_t bytes);
    /* Host memory: all get rank `root`'s data. */
    void (*broadcast)(struct collective *c, int root, void *data, size_t bytes);
    /* Memory of device d: see kernels/group.h. */
    void (*sum_slices)(struct collective *c, struct device *d, const struct sum_slices_args *a);
    void (*share_slices)(struct collective *c, struct device *d, const struct share_slices_args *a);
    /* Work given to d from now on sees the results of sum_slices and share_slices. NULL: they are
     * done when they return. */
    void (*join)(struct collective *c, struct device *d);
    /* Returns when all ranks have called it. */
    void (*barrier)(struct collective *c);
    void (*patient)(struct collective *c, bool on); /* optional: see collective_patient */
    void (*waiting)(struct collective *c, bool on); /* optional: see collective_wait */
    void (*close)(struct collective *c);
};

struct collective {
    const struct collective_functions *functions;
    int rank, size;    /* 0 <= rank < size */
    int shard, shards; /* the slice that this rank owns, and their number; rank r owns slice
                          r % shards */
    void *state;
};

/* A run with a single rank. It need not be closed, but may be. */
struct collective *collective_alone(void);
/* The first of `size` ranks of which the others do not exist: what they send is what it sends. For
 * dry runs that find out how much memory is needed. Not to be closed. */
struct collective collective_dry(int size);

void collective_gather(struct collective *c, const void *own, void *all, size_t bytes);
void collective_broadcast(struct collective *c, int root, void *data, size_t bytes);
void collective_sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a);
void collective_share_slices(struct collective *c, struct device *d,
                             const struct share_slices_args *a);
void collective_join(struct collective *c, struct device *d);
/* x = sum over ranks in their order; a few doubles in host memory. */
void collective_sum(struct collective *c, double *x, int count);
void collective_barrier(struct collective *c);
/* Returns when d has done all work, which may wait for other ranks' devices: a wait that counts for
 * the watchdog, as those of the other functions do. */
void collective_wait(struct collective *c, struct device *d);
/* on: from now on the first rank works alone, say writes a checkpoint, and however long that takes,
 * others that wait for it do not take it for hung (common/train/watchdog.h); until they call it
 * with on = false. */
void collective_patient(struct collective *c, bool on);
void collective_close(struct collective *c); /* NULL is fine */

#endif
