#ifndef CCLD_ENCODE_UNIQUE_H
#define CCLD_ENCODE_UNIQUE_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/shards/shard_store.h"

/* The hashes of the images that a store has or is about to get (content_hash), to leave out others
 * with the same bytes. What is left out is not remembered in the store: a rerun reads and compares
 * it again, so that it is encoded if the record has been removed or replaced by then. About 45
 * bytes of memory per image. All functions may be called by several threads. */
struct unique;

/* shared: processes that are forked later see each other's images. */
struct unique *unique_new(bool shared);
void unique_free(struct unique *u); /* NULL is fine */
/* Adds the images of a store's records. *unhashed: the number of those whose hash is not known,
 * since an earlier version wrote them. */
int unique_add_store(struct unique *u, struct shard_writer *store, int64_t *unhashed,
                     struct error *e);

bool unique_has(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE]);
/* Adds an image unless there is one with this hash; false: there is. */
bool unique_claim(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE]);
/* An image takes another one's place. before: that one's hash, or NULL if it is not known. */
void unique_replace(struct unique *u, const uint8_t *before,
                    const uint8_t after[CONTENT_HASH_SIZE]);
/* Says that this process leaves out an image. */
void unique_leave_out(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE]);
/* The number of hashes of images that this process has left out, and whose last record has been
 * replaced since: the next run encodes them. */
int64_t unique_orphans(struct unique *u);

#endif
