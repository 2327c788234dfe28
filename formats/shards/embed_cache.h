#ifndef CCLD_FORMATS_SHARDS_EMBED_CACHE_H
#define CCLD_FORMATS_SHARDS_EMBED_CACHE_H

#include "common/base/files.h"
#include "formats/shards/shard_store.h"

/* A cache of a store's embeddings, the file .embeddings in its folder, or of rows that are made of
 * its thumbnails, the file .thumbnails; both can be deleted at any time. Reading embeddings from
 * the store means decompressing every record; the cache is mapped. It holds, in the byte order of
 * the machine:
 *
 *   magic number, numbers in a row d, records n, shards (8 bytes each); then of each shard the
 * bytes and the mtime in nanoseconds of its file, the last LMDB transaction and the records (8
 * bytes each); zeros up to a multiple of 64 bytes rows, F32 [n, d] XXH3-64 of the rows of each
 * EMBED_CACHE_BLOCK records (8 bytes each) XXH3-64 of these hashes, with that of everything before
 * the rows as the seed
 *
 * It is current as long as its beginning is the one that the store would give it. */

#define EMBED_CACHE_NAME     ".embeddings"
#define THUMBNAIL_CACHE_NAME ".thumbnails"
#define EMBED_CACHE_BLOCK    256

enum embed_cache_kind { EMBED_CACHE_EMBEDDINGS, EMBED_CACHE_THUMBNAILS };
struct embed_cache_rows {
    enum embed_cache_kind kind;
    int64_t width; /* numbers in a row */
};
const char *embed_cache_name(enum embed_cache_kind kind);

struct embed_cache {
    struct mapped_file file;
    const float *rows; /* [count, width] */
    int64_t count, width;
    const uint8_t *sums; /* perhaps not aligned */
};

/* Maps the cache of an open store. Fails, also with an empty reason if there is no cache: the store
 * must be read, and a new cache can be made. */
int embed_cache_open(struct embed_cache *c, const char *folder, const struct shard_store *s,
                     const struct embed_cache_rows *rows, struct error *e);
/* Whether the records from block * EMBED_CACHE_BLOCK on are as written. Threads may call it. */
bool embed_cache_check(const struct embed_cache *c, int64_t block);
void embed_cache_close(struct embed_cache *c); /* a zeroed one is fine */
/* Deletes the cache of a folder, if there is one. */
void embed_cache_remove(const char *folder, enum embed_cache_kind kind);
void embed_caches_remove(const char *folder); /* all kinds */
/* Deletes caches that killed programs have not finished; others that are being written stay. */
void embed_cache_clean(const char *folder);

/* Begins a new cache, before the first record is read. To be finished or abandoned. Until then, a
 * lock (flock) on the temporary file tells that the program is alive. */
struct embed_cache_writer {
    struct atomic_file file;
    struct embed_cache_rows of;
    uint8_t *head; /* everything before the rows */
    size_t head_size;
    uint64_t *sums;
    int64_t count, width, written; /* records */
};
int embed_cache_create(struct embed_cache_writer *w, const char *folder,
                       const struct shard_store *s, const struct embed_cache_rows *rows,
                       struct error *e);
/* Appends n rows; a multiple of EMBED_CACHE_BLOCK except at the end. */
int embed_cache_append(struct embed_cache_writer *w, const float *rows, int64_t n, struct error *e);
/* Puts the cache in the place of an older one. Fails if records were replaced in the meantime. */
int embed_cache_finish(struct embed_cache_writer *w, const struct shard_store *s, struct error *e);
void embed_cache_abandon(struct embed_cache_writer *w);

#endif
