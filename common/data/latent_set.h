#ifndef CCLD_DATA_LATENT_SET_H
#define CCLD_DATA_LATENT_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/data/read_ahead.h"
#include "common/train/unet_step.h"
#include "formats/shards/shard_store.h"

/* What a run is trained on: all records of one or more shard stores, in the stores' order, some of
 * them held out. A record's number counts through all of them; it is what unet_batch.samples
 * holds. Functions that take a const latent_set, and those that read, may be called by several
 * threads. */
struct latent_set;

/* Opens stores that may stand beside one another (shard_info_check). holdout: how many records are
 * held out. Which ones depends on nothing but their numbers: a store that has grown holds out none
 * of the records that could be trained on before. Reasons name the store. */
int latent_set_open(struct latent_set **d, const char *const *folders, int count, int64_t holdout,
                    struct error *e);
void latent_set_close(struct latent_set *d); /* NULL is fine */

const struct shard_info *latent_set_info(const struct latent_set *d);
struct latent_statistics latent_set_statistics(const struct latent_set *d);
bool latent_set_finished(const struct latent_set *d); /* all stores are: shard_store_finished */
int64_t latent_set_count(const struct latent_set *d); /* records, held out ones included */
int64_t latent_set_training_count(const struct latent_set *d);
int64_t latent_set_holdout_count(const struct latent_set *d);
/* 32 hex digits and a zero, the same for the same records in the same order: of models, shapes,
 * numbers of records and statistics of each store, not of their folders' names. */
void latent_set_hash(char hex[33], const struct latent_set *d);

const struct order *latent_set_order(const struct latent_set *d);
/* Number of the record at a place of an epoch's order; 0 <= place < latent_set_training_count. */
int64_t latent_set_record_at(const struct latent_set *d, uint64_t seed, int64_t epoch,
                             int64_t place);
/* Number of held-out record i, in ascending order. */
int64_t latent_set_holdout_at(const struct latent_set *d, int64_t i);
/* "photos/1.jpg", malloc'ed: the path in the record. */
int latent_set_path(struct latent_set *d, int64_t record, char **path, struct error *e);
/* "shards/00002.mdb, index 17, 'photos/1.jpg'", malloc'ed, for error reports; without the path
 * where the record cannot be read. */
char *latent_set_describe(struct latent_set *d, int64_t record);

int64_t latent_set_steps_per_epoch(const struct latent_set *d, int64_t effective_batch);
struct data_position latent_set_advance(const struct latent_set *d, struct data_position p,
                                        int64_t steps, int64_t effective_batch);

/* Batches of a run, read ahead by threads of their own and handed out in order. */
struct latent_reader;
struct embed_neighbours;
/* Embeds are mixed with those of neighbours (common/data/embed_neighbours.h), which are NULL where
 * they are not. Fails when the effective batch (batch * accumulate * ranks) is larger than the
 * records to train on. d and neighbours must outlive the reader. */
int latent_reader_open(struct latent_reader **r, struct latent_set *d,
                       const struct embed_neighbours *neighbours,
                       const struct batch_reader_options *o, struct error *e);
void latent_reader_close(struct latent_reader *r); /* NULL is fine */

struct latent_batch {
    struct unet_batch data;
    int64_t step, micro_batch; /* numbers: of the run, and within the step */
    struct data_position at;   /* of the whole step's first record */
};
/* The next micro-batch; those of a step follow one another. Image i of micro-batch k of rank r is
 * at place at.place + (k * ranks + r) * batch + i. Valid until the next call. */
int latent_reader_next(struct latent_reader *r, const struct latent_batch **b, struct error *e);
/* Seconds that latent_reader_next has waited for data so far. */
double latent_reader_waited(const struct latent_reader *r);

/* Held-out records first .. first+n into memory of its own, for unet_step_evaluate. */
struct holdout_batch {
    struct unet_batch data; /* n: as asked for */
    float *moments, *embeds;
    uint64_t *samples;
    int64_t capacity; /* images */
};
void holdout_batch_init(struct holdout_batch *h);
void holdout_batch_release(struct holdout_batch *h);
int holdout_batch_read(struct holdout_batch *h, struct latent_set *d, int64_t first, int64_t n,
                       struct error *e);

#endif
