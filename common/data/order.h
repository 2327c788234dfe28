#ifndef CCLD_DATA_ORDER_H
#define CCLD_DATA_ORDER_H

#include <stdint.h>

/* In which order records, known by their numbers only, are trained on, and which of them are held
 * out. Each epoch is a permutation of the records that are not held out, a pure function of
 * (seed, epoch) that is computed record by record, so nothing is kept of it. A step takes the next
 * `effective batch` of them; what is left at the end of an epoch and does not fill one is left out,
 * as in the reference. */
struct order {
    int64_t records, holdout; /* records: held out ones included */
    int64_t *held_out;        /* numbers, ascending */
    int half_bits[2];         /* of the shuffle's two halves: 2^(sum) >= training records */
};

/* holdout: how many are held out, fewer than all. Which ones depends on nothing but their numbers:
 * where records are added, none is held out that could be trained on before. */
void order_init(struct order *o, int64_t records, int64_t holdout);
void order_release(struct order *o);

int64_t order_training_count(const struct order *o);
/* Number of the record at a place of an epoch's order; 0 <= place < order_training_count. */
int64_t order_record_at(const struct order *o, uint64_t seed, int64_t epoch, int64_t place);
/* Number of held-out record i, in ascending order. */
int64_t order_holdout_at(const struct order *o, int64_t i);

/* Where a run stands in its data. */
struct data_position {
    int64_t epoch, place; /* from 0 both; place: of the next step's first record */
};
int64_t order_steps_per_epoch(const struct order *o, int64_t effective_batch);
/* Where a run that stands at p stands after `steps` more. A place that leaves no whole batch moves
 * to the next epoch. There must be at least one step per epoch. */
struct data_position order_advance(const struct order *o, struct data_position p, int64_t steps,
                                   int64_t effective_batch);

#endif
