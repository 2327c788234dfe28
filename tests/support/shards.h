#ifndef CCLD_TESTS_SHARDS_H
#define CCLD_TESTS_SHARDS_H

#include "formats/shards/shard_store.h"

/* Small shard stores for tests, in test_folder(). Record k of generation g depends on k and g only.
 */

#define SHARDS_Z      4
#define SHARDS_SIDE   16
#define SHARDS_LATENT (SHARDS_Z * SHARDS_SIDE * SHARDS_SIDE)
#define SHARDS_EMBED  16

extern const struct shard_info shards_info;

struct shards_sample {
    char path[64];
    float moments[2 * SHARDS_LATENT], embed[SHARDS_EMBED];
};
void shards_sample(struct shards_sample *s, int k, int generation);
/* Size 1000 + k, mtime 1700000000123456789 + generation, 100 + k by 200 + k pixels. */
struct shard_item shards_item(const struct shards_sample *s, int k, int generation);
int shards_put(struct shard_writer *w, int first, int n, int generation, struct error *e);

const char *shards_folder(const char *name); /* valid until the next call */
/* On failure, returns NULL and prints the reason as a diagnostic. */
struct shard_writer *shards_open(const char *name, int64_t shard_size, size_t map_size);
/* A finished store of n records, written in batches. */
bool shards_write(const char *name, int n, int batch, int64_t shard_size, size_t map_size);
bool shards_record_is(struct shard_store *s, int64_t index, int k, int generation);

/* Check that verify reports no problem, or that one of the problems it reports is `expected`. */
void shards_ok_clean(const char *name, const char *what);
void shards_ok_problem(const char *name, const char *expected, const char *what);

#endif
