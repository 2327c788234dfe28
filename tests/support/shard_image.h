#ifndef CCLD_TESTS_SHARD_IMAGE_H
#define CCLD_TESTS_SHARD_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* The file of a store of one shard in memory, to be damaged. Offsets are in bytes. */

#define IMAGE_PAGE 4096

/* LMDB's fields: offsets in a page, node or database record. */
enum {
    PAGE_NUMBER = 0,
    PAGE_FLAGS = 10,
    PAGE_LOWER = 12,
    PAGE_UPPER = 14,
    PAGE_COUNT = 12, /* of overflow pages */
    NODE_OFFSETS = 16,
    NODE_FLAGS = 4,
    NODE_KEY_SIZE = 6,
    NODE_HEADER = 8,
    META_MAGIC = 16,
    META_VERSION = 20,
    META_MAP_SIZE = 32,
    META_FREE = 40,
    META_MAIN = 88,
    META_LAST = 136,
    META_TRANSACTION = 144,
    DATABASE_FLAGS = 4,
    DATABASE_DEPTH = 6,
    DATABASE_ENTRIES = 32,
    DATABASE_ROOT = 40,
    DATABASE_SIZE = 48,
};

struct shard_image {
    const char *store;    /* its name: see shards_folder */
    uint8_t *data, *good; /* good: as it was read */
    size_t size;
    size_t meta;           /* the newest meta page */
    size_t samples, paths; /* their database records */
};
/* The store must have been written with at least one record. */
void shard_image_read(struct shard_image *m, const char *store);
void shard_image_release(struct shard_image *m);
void shard_image_restore(struct shard_image *m);    /* data from good */
void shard_image_save(const struct shard_image *m); /* data to the file */
/* Changes one byte of the file only. */
void shard_image_save_byte(const struct shard_image *m, size_t at, uint8_t value);

uint64_t image_get(const struct shard_image *m, size_t at, int bytes);
void image_put(struct shard_image *m, size_t at, int bytes, uint64_t v);
int image_nodes(const struct shard_image *m, size_t page); /* how many it has */
size_t image_node(const struct shard_image *m, size_t page, int i);
size_t image_node_data(const struct shard_image *m, size_t page, int i);
size_t image_root(const struct shard_image *m, size_t database); /* the page */
size_t image_child(const struct shard_image *m, size_t branch, int i);

#endif
