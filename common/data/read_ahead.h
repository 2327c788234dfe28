#ifndef CCLD_DATA_READ_AHEAD_H
#define CCLD_DATA_READ_AHEAD_H

#include "common/base/error.h"
#include "common/data/order.h"

/* Reads a run's micro-batches ahead in threads and returns them in order, whatever they contain. */

struct batch_reader_options {
    uint64_t seed;
    int64_t batch;      /* samples in a micro-batch on this rank */
    int64_t accumulate; /* micro-batches in a step */
    int rank, ranks;
    int threads;                /* 0: 2 */
    int64_t ahead;              /* most micro-batches to read ahead; 0: 2 * threads */
    int64_t first_step;         /* number of the first step returned ... */
    struct data_position start; /* ... and its position */
};

struct batch_place {
    int64_t step, micro_batch; /* number of the step in the run, of the micro-batch in the step */
    struct data_position at;   /* of the whole step's first record */
    int64_t first; /* place in epoch at.epoch of this micro-batch's first record on this rank:
                      at.place + (micro_batch * ranks + rank) * batch */
};

struct read_ahead_functions {
    void *(*slot_new)(void *context); /* memory for one micro-batch */
    void (*slot_free)(void *slot);
    /* Called by several threads at once, on different slots. */
    int (*fill)(void *context, void *slot, const struct batch_place *at, struct error *e);
};

struct read_ahead;
/* Fails if the effective batch (batch * accumulate * ranks) exceeds the number of training records.
 * functions, context and order must outlive the reader. */
int read_ahead_open(struct read_ahead **out, const struct read_ahead_functions *functions,
                    void *context, const struct order *order, const struct batch_reader_options *o,
                    struct error *e);
void read_ahead_close(struct read_ahead *r); /* NULL is fine */
/* Micro-batches that a reader with these options holds in memory. */
int64_t read_ahead_slots(const struct batch_reader_options *o);
/* The next micro-batch, valid until the next call. */
int read_ahead_next(struct read_ahead *r, void **memory, struct error *e);
/* Seconds that read_ahead_next has waited so far. */
double read_ahead_waited(const struct read_ahead *r);

#endif
