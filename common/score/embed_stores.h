#ifndef CCLD_SCORE_EMBED_STORES_H
#define CCLD_SCORE_EMBED_STORES_H

#include "common/nets/model.h"
#include "formats/shards/embed_cache.h"
#include "formats/shards/shard_store.h"

/* The embeddings of the records of one or more stores, or the signatures (signature.h) of their
 * images; a store in parts is its parts. Records are numbered across all of them, as ccld-shards
 * remove numbers them. */
struct embed_stores {
    struct embed_cache_rows rows;
    struct shard_folders folders;
    struct shard_store **stores; /* [folders.count] */
    int64_t *first;              /* [folders.count + 1]; the last is the number of all records */
    int64_t count, width;        /* of records; of an embedding or a signature */
    bool use_cache;              /* embed_cache.h */
    int64_t damaged;             /* records that the last scan could not read */
};

/* Opens all, which must, for embeddings, have those of the same CLOOB. Reasons are whole
 * sentences. To be closed, also after a failure. */
int embed_stores_open(struct embed_stores *s, enum embed_cache_kind kind, const char *const *names,
                      int n, struct error *e);
void embed_stores_close(struct embed_stores *s);
/* Fails, naming the store, unless the embeddings are this CLOOB's. */
int embed_stores_check(const struct embed_stores *s, const struct model_part *cloob,
                       struct error *e);

/* Rows [n, width] of the records first .. first + n: embeddings as stored, of length 1 within 1%,
 * or signatures; the row of a record that cannot be read, or has no thumbnail, is NaN. Threads call
 * it, in any order; see threads.h for worker. */
typedef void embeds_visit(void *context, const float *rows, int64_t first, int64_t n, int worker);
/* Calls visit for all records, blocks of them at a time, so memory does not grow with the stores.
 * Damaged records are reported and counted. Caches are used and made as use_cache says; without one
 * that is current, or if it is damaged, records are read from the store. */
void embed_stores_scan(struct embed_stores *s, embeds_visit *visit, void *context);

/* The folder of a record, and its index there. */
const char *embed_stores_locate(const struct embed_stores *s, int64_t record, int64_t *index);
/* malloc'ed. */
int embed_stores_path(struct embed_stores *s, int64_t record, char **path, struct error *e);

#endif
