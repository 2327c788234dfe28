#ifndef CCLD_DATA_ORDER_H
#define CCLD_DATA_ORDER_H

#include <stdint.h>

/* The order in which records, known only by their numbers, are trained on, and which of them are
 * held out. Each epoch is a permutation of the records that are not held out: a pure function of
 * (seed, epoch), computed record by record, so it takes no memory. A step uses the next `effective
 * batch` records. Records left at the end of an epoch that do not fill a batch are skipped, as in
 * the reference. */
struct order {
    int64_t records, holdout; /* records: including held-out ones */
    int64_t *held_out;        /* numbers, ascending */
    int half_bits[2];         /* of the shuffle's two halves: 2^(sum) >= training records */
};

/* holdout: how many records to hold out, fewer than all. The choice depends only on the records'
 * numbers: when records are added, none that could be trained on before is held out. */
void order_init(struct order *o, int64_t records, int64_t holdout);
void order_release(struct order *o);

int64_t order_training_count(const struct order *o);
/* The record's number at a place in an epoch's order; 0 <= place < order_training_count. */
int64_t order_record_at(const struct order *o, uint64_t seed, int64_t epoch, int64_t place);
/* The number of held-out record i, in ascending order. */
int64_t order_holdout_at(const struct order *o, int64_t i);

/* A run's position in its data. */
struct data_position {
    int64_t epoch, place; /* both from 0; place: of the next step's first record */
};
int64_t order_steps_per_epoch(const struct order *o, int64_t effective_batch);
/* The position `steps` steps after p. A place that leaves no whole batch moves to the next epoch.
 * There must be at least one step per epoch. */
struct data_position order_advance(const struct order *o, struct data_position p, int64_t steps,
                                   int64_t effective_batch);

#endif
