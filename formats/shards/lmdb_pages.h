#ifndef CCLD_FORMATS_SHARDS_LMDB_PAGES_H
#define CCLD_FORMATS_SHARDS_LMDB_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "formats/shards/shard_pages.h"

/* LMDB's file format, version 1, in the byte order of the machine and with page numbers of 64 bits.
 * Names are LMDB's, without their prefixes. */

#define MAGIC         0xBEEFC0DEu
#define VERSION       1
#define PAGE_SIZE_MIN 4096
#define PAGE_SIZE_MAX 32768
#define MAP_SIZE_MAX  ((uint64_t)1 << 46)
#define DEPTH_MAX     32 /* of LMDB's cursors */
#define KEY_SIZE_MAX  511
#define NO_PAGE       UINT64_MAX /* the root of an empty tree */

enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };
enum { NODE_BIGDATA = 1, NODE_SUBDATA = 2 };
enum { DATABASE_INTEGERKEY = 8, ENVIRONMENT_NOSUBDIR = 0x4000 };

struct page_header {
    uint64_t number;
    uint16_t pad, flags; /* pad: not always initialized */
    union {
        struct {
            uint16_t lower, upper; /* bounds of the free space */
        };
        uint32_t pages; /* of an overflow page and those that continue it */
    };
};
_Static_assert(sizeof(struct page_header) == 16, "LMDB's PAGEHDRSZ");

struct database {
    uint32_t pad; /* in the free list's: the page size */
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta {
    struct page_header header;
    uint32_t magic, version;
    uint64_t address, map_size;
    struct database free_list, main;
    uint64_t last_page, transaction;
};
_Static_assert(sizeof(struct meta) == 152 && sizeof(size_t) == 8, "LMDB of 64 bits");

struct node_header {
    uint16_t low, high, flags, key_size; /* low, high: data size; with flags, a child's number */
};

struct node {
    const uint8_t *key, *data;
    size_t key_size;
    unsigned flags;
    uint64_t child;     /* in a branch page */
    uint32_t data_size; /* in a leaf page */
};

struct pages {
    int fd;
    enum shard_pages_scope scope;
    size_t size;                      /* of a page */
    uint64_t file_size;               /* bytes */
    uint64_t count;                   /* pages that are in use or free: last_page + 1 */
    uint64_t whole;                   /* pages that the file has */
    uint64_t free_beyond_file;        /* free pages that have never been written */
    uint64_t transaction;             /* the snapshot's */
    uint8_t *used;                    /* a bit per page of the file */
    uint8_t taken[PAGE_SIZE_MAX / 2]; /* which pairs of bytes of a page are in a node */
    struct error *e;
};

enum key_order { KEYS_BYTES, KEYS_INTEGER };

struct tree {
    struct pages *p;
    const char *name;
    struct database record;
    enum key_order order;
    size_t key_size; /* 0: any */
    uint64_t entries;
    /* Called for each entry after its node has been checked. */
    int (*visit)(struct tree *t, uint64_t page, const struct node *n);
    struct database *found; /* what visit fills, by database_names */
};

/* Fails, with the number of bytes, if the file ends before at + size. */
int lmdb_read_at(int fd, void *out, size_t size, uint64_t at, struct error *e);
/* "damaged: page 17 (samples): used twice". Returns -1. */
int lmdb_fault(struct tree *t, uint64_t page, const char *what);
/* Marks n pages as used. Fails if there are no such pages, or one is used already. */
int lmdb_use_pages(struct tree *t, uint64_t number, uint64_t n);
/* The first page of an entry's data that have pages of their own. */
uint64_t lmdb_overflow_page(const struct node *n);
/* Checks all pages of a tree. */
int lmdb_check_tree(struct tree *t);

#endif
