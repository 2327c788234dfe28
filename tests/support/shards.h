#ifndef CCLD_TESTS_SHARDS_H
#define CCLD_TESTS_SHARDS_H

#include "formats/shards/shard_store.h"

/* Small shard stores for tests, in test_folder(). Record k of generation g is a pure function of k
 * and g. */

#define SHARDS_Z      4
#define SHARDS_SIDE   16
#define SHARDS_LATENT (SHARDS_Z * SHARDS_SIDE * SHARDS_SIDE)
#define SHARDS_EMBED  16

extern const struct shard_info shards_info;

struct shards_sample {
    char path[64];
    float moments[2 * SHARDS_LATENT], embed[SHARDS_EMBED];
    uint8_t hash[CONTENT_HASH_SIZE]; /* of the words "image", k and generation */
};
void shards_sample(struct shards_sample *s, int k, int generation);
/* Size 1000 + k, mtime 1700000000123456789 + generation, 100 + k by 200 + k pixels. */
struct shard_item shards_item(const struct shards_sample *s, int k, int generation);
int shards_put(struct shard_writer *w, int first, int n, int generation, struct error *e);

const char *shards_folder(const char *name); /* valid until the next call */
/* Returns NULL after printing the reason as a diagnostic if it fails. */
struct shard_writer *shards_open(const char *name, int64_t shard_size, size_t map_size);
/* Writes a finished store of n records in batches of `batch`. */
bool shards_write(const char *name, int n, int batch, int64_t shard_size, size_t map_size);
/* Returns 0 if the store can be opened and all its records can be read. */
int shards_read_all(const char *name, struct error *e);
/* Makes a store one that an earlier version wrote: without hashes. */
void shards_make_version_1(const char *name);
/* The number of records with a hash; -1 if one is not that of generation 0, or the store cannot be
 * read. */
int64_t shards_hashes(const char *name);
bool shards_record_is(struct shard_store *s, int64_t index, int k, int generation);

/* Tests that verify finds no problem, or one whose text contains `expected`. */
void shards_ok_clean(const char *name, const char *what);
void shards_ok_problem(const char *name, const char *expected, const char *what);

#endif
