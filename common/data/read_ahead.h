#ifndef CCLD_DATA_READ_AHEAD_H
#define CCLD_DATA_READ_AHEAD_H

#include "common/base/error.h"
#include "common/data/order.h"

/* Micro-batches of a run, made by threads of their own ahead of time and handed out in order,
 * whatever they are made of. */

struct batch_reader_options {
    uint64_t seed;
    int64_t batch;      /* images of a micro-batch on this rank */
    int64_t accumulate; /* micro-batches of a step */
    int rank, ranks;
    int threads;                /* 0: 2 */
    int64_t ahead;              /* micro-batches read ahead at most; 0: 2 * threads */
    int64_t first_step;         /* number of the first step that is handed out ... */
    struct data_position start; /* ... and where it begins */
};

struct batch_place {
    int64_t step, micro_batch; /* numbers: of the run, and within the step */
    struct data_position at;   /* of the whole step's first record */
    int64_t first; /* place, in the epoch at.epoch, of this micro-batch's first record on this rank:
                      at.place + (micro_batch * ranks + rank) * batch */
};

struct read_ahead_functions {
    void *(*slot_new)(void *context); /* memory of a micro-batch */
    void (*slot_free)(void *slot);
    /* Called by several threads at once, on different slots. */
    int (*fill)(void *context, void *slot, const struct batch_place *at, struct error *e);
};

struct read_ahead;
/* Fails when the effective batch (batch * accumulate * ranks) is larger than the records to train
 * on. functions, context and order must outlive it. */
int read_ahead_open(struct read_ahead **r, const struct read_ahead_functions *functions,
                    void *context, const struct order *order, const struct batch_reader_options *o,
                    struct error *e);
void read_ahead_close(struct read_ahead *r); /* NULL is fine */
/* The next one, valid until the next call. */
int read_ahead_next(struct read_ahead *r, void **slot, struct error *e);
/* Seconds that read_ahead_next has waited so far. */
double read_ahead_waited(const struct read_ahead *r);

#endif
