#ifndef CCLD_DATA_LATENT_SET_H
#define CCLD_DATA_LATENT_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "common/data/path_list.h"
#include "common/data/read_ahead.h"
#include "common/data/unreadable.h"
#include "common/train/unet_step.h"
#include "formats/shards/shard_store.h"

/* The data set of the U-Net: all records of one or more shard stores, in the order of the stores,
 * some of them held out. Records are numbered across all stores; unet_batch.samples holds these
 * numbers. Several threads may call the functions that take a const latent_set and those that read.
 *
 * A damaged record causes one warning, and the record at the next readable place in the epoch's
 * order takes its place; a damaged held-out record is left out. If the system is to blame, reading
 * fails instead. So the data of a step depends only on the stores, wherever a run begins. */
struct latent_set;

struct latent_set_options {
    int64_t holdout; /* number of records to hold out */
    /* Paths of records: all others are left out, or these; NULL: none is given. Numbers count only
     * the records that are left. A warning says how many paths are those of no record. */
    const struct path_list *only, *except;
};

/* Opens compatible stores (shard_info_check); a store in parts counts as its parts with shards, in
 * their order. Refuses a store or shard that is given twice (shard_folders_check_distinct): records
 * would be both held out and trained on. The choice of held-out records
 * depends only on their numbers: a store that has grown holds out none of the records that
 * could be trained on before. Reasons name the store. */
int latent_set_open(struct latent_set **out, const char *const *folders, int count,
                    const struct latent_set_options *o, struct error *e);
void latent_set_close(struct latent_set *d); /* NULL is fine */

const struct shard_info *latent_set_info(const struct latent_set *d);
/* Of whole stores. */
struct latent_statistics latent_set_statistics(const struct latent_set *d);
bool latent_set_finished(const struct latent_set *d); /* all stores are: shard_store_finished */
int64_t latent_set_training_count(const struct latent_set *d);
int64_t latent_set_holdout_count(const struct latent_set *d);
/* Writes 32 hex digits and a terminating zero, the same for the same records in the same order: a
 * hash of each store's models, shapes, number of records and statistics, not of folder names, and
 * of which records are left. */
void latent_set_hash(char hex[33], const struct latent_set *d);

const struct order *latent_set_order(const struct latent_set *d);
struct unreadable *latent_set_unreadable(const struct latent_set *d); /* the damaged records */
/* The record's number at a place in an epoch's order; 0 <= place < latent_set_training_count. */
int64_t latent_set_record_at(const struct latent_set *d, uint64_t seed, int64_t epoch,
                             int64_t place);
/* Returns the path in the record, such as "photos/1.jpg", malloc'ed; of a damaged one, too, if its
 * label tells. */
int latent_set_path(struct latent_set *d, int64_t record, char **path, struct error *e);
/* Describes a record in error messages: "shards/00002.mdb, index 17, 'photos/1.jpg'", malloc'ed;
 * without the path if the record cannot be read. */
char *latent_set_describe(struct latent_set *d, int64_t record);

/* Reads a record's embedding [d]; its path is r->path until the next read. r: the calling thread's
 * scratch memory. SHARD_RECORD_DAMAGED: the user has been told. */
int latent_set_read_embed(struct latent_set *d, int64_t record, struct shard_record *r,
                          float *embed, struct error *e);

/* Reads a run's batches ahead in threads and returns them in order. */
struct latent_reader;
struct embed_neighbours;
/* neighbours: mixes embeddings with those of neighbors (common/data/embed_neighbours.h); NULL:
 * leaves them as they are. Fails if the effective batch (batch * accumulate * ranks) exceeds the
 * number of training records. d and neighbours must outlive the reader. */
int latent_reader_open(struct latent_reader **out, struct latent_set *d,
                       const struct embed_neighbours *neighbours,
                       const struct batch_reader_options *o, struct error *e);
void latent_reader_close(struct latent_reader *r); /* NULL is fine */
/* Bytes of host memory that a reader takes. */
int64_t latent_reader_memory(const struct latent_set *d, const struct batch_reader_options *o);

struct latent_batch {
    struct unet_batch data;
    int64_t step, micro_batch; /* number of the step in the run, of the micro-batch in the step */
    struct data_position at;   /* of the whole step's first record */
};
/* The next micro-batch; those of one step follow one another. Image i of micro-batch k on rank r is
 * at place at.place + (k * ranks + r) * batch + i, or at the next readable one. Valid until the
 * next call. Fails if no record can be read. */
int latent_reader_next(struct latent_reader *r, const struct latent_batch **b, struct error *e);
/* Seconds that latent_reader_next has waited for data so far. */
double latent_reader_waited(const struct latent_reader *r);

/* Held-out records in memory of their own, for unet_step_evaluate. */
struct holdout_batch {
    struct unet_batch data; /* its n: the number last read */
    float *moments, *embeds;
    uint64_t *samples;
    bool *damaged;    /* [n]: this record could not be read, its values are zeros */
    int64_t capacity; /* records */
};
void holdout_batch_init(struct holdout_batch *h);
void holdout_batch_release(struct holdout_batch *h);
/* Reads held-out records first .. first+n. */
int holdout_batch_read(struct holdout_batch *h, struct latent_set *d, int64_t first, int64_t n,
                       struct error *e);

#endif
