#ifndef CCLD_FORMATS_SHARDS_SHARD_PAGES_H
#define CCLD_FORMATS_SHARDS_SHARD_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

/* The structure of an LMDB file: meta pages, and trees of pages with nodes. LMDB trusts all of it,
 * so that one damaged byte can make it read or write outside its map. These functions read the file
 * itself, never a map, before LMDB does. They do not look at what the records contain.
 *
 * Errors name the page and the fault, not the file. A program that writes to the file meanwhile can
 * cause one, so callers try again before they report it. */

/* Checks what mdb_env_open reads: both meta pages. Then the newest snapshot's map, and no other
 * page, may be used. */
int shard_pages_check_meta(int fd, struct error *e);

enum shard_pages_scope {
    SHARD_PAGES_OF_RECORDS, /* what reading records needs: the main database, samples and meta */
    SHARD_PAGES_ALL,        /* also paths, the free list and overflow pages' headers */
};
/* Checks the trees of the snapshot with this transaction ID, which a read transaction holds: that
 * each page is what its parent takes it for, within the file, and used once; its nodes; the order
 * and sizes of keys; the number of entries. */
int shard_pages_check(int fd, uint64_t transaction, enum shard_pages_scope scope, struct error *e);

#endif
