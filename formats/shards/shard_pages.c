#include "formats/shards/shard_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/shards/path_set.h"

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

enum { SAMPLES, META, PATHS, DATABASES };
static const char *const database_names[DATABASES] = {"samples", "meta", "paths"};

static int read_at(int fd, void *out, size_t size, uint64_t at, struct error *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)out + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(e, "cannot read");
        if (n == 0)
            return error_set(e, "truncated: %" PRIu64 " bytes, but %" PRIu64 " are in use",
                             at + done, at + size);
        done += (size_t)n;
    }
    return 0;
}

static int fault_in_meta(struct error *e, int number, const char *what)
{
    return error_set(e, "damaged: meta page %d: %s", number, what);
}

static int check_meta_page(const struct meta *m, int number, size_t page_size, struct error *e)
{
    if (m->header.flags != PAGE_META || m->magic != MAGIC)
        return error_set(e, "cannot open: not an LMDB file");
    if (m->version != VERSION)
        return error_set(e, "cannot open: LMDB file of an unsupported version");
    if (m->header.number != (uint64_t)number)
        return fault_in_meta(e, number, "invalid page number");
    if (page_size < PAGE_SIZE_MIN || page_size > PAGE_SIZE_MAX ||
        (page_size & (page_size - 1)) != 0 || m->free_list.pad != page_size)
        return fault_in_meta(e, number, "invalid page size");
    if ((m->free_list.flags & ~ENVIRONMENT_NOSUBDIR) != DATABASE_INTEGERKEY || m->main.flags != 0)
        return fault_in_meta(e, number, "invalid flags");
    if (m->map_size > MAP_SIZE_MAX || m->last_page < 1 || m->last_page >= m->map_size / page_size)
        return fault_in_meta(e, number, "invalid last page or map size");
    return 0;
}

/* Transaction N writes meta page N % 2. */
static int read_meta_pages(int fd, struct meta m[2], struct error *e)
{
    if (read_at(fd, &m[0], sizeof m[0], 0, e) != 0)
        return -1;
    size_t page_size = m[0].free_list.pad;
    if (check_meta_page(&m[0], 0, page_size, e) != 0 ||
        read_at(fd, &m[1], sizeof m[1], page_size, e) != 0 ||
        check_meta_page(&m[1], 1, page_size, e) != 0)
        return -1;
    bool fresh = m[0].transaction == 0 && m[1].transaction == 0;
    int newest = m[1].transaction > m[0].transaction;
    if (!fresh && (m[newest].transaction % 2 != (uint64_t)newest ||
                   m[newest].transaction != m[!newest].transaction + 1))
        return error_set(e, "damaged: meta pages: transactions %" PRIu64 " and %" PRIu64,
                         m[0].transaction, m[1].transaction);
    return 0;
}

int shard_pages_check_meta(int fd, struct error *e)
{
    struct meta m[2];
    return read_meta_pages(fd, m, e);
}

static int fault(struct tree *t, uint64_t page, const char *what)
{
    return error_set(t->p->e, "damaged: page %" PRIu64 " (%s): %s", page, t->name, what);
}

/* Marks n pages as used. */
static int use_pages(struct tree *t, uint64_t number, uint64_t n)
{
    struct pages *p = t->p;
    if (number < 2 || number >= p->count || n > p->count - number)
        return fault(t, number, "no such page");
    if (number + n > p->whole)
        return error_set(p->e, "truncated: %" PRIu64 " bytes, but %" PRIu64 " are in use",
                         p->file_size, (number + n) * p->size);
    for (uint64_t i = number; i < number + n; i++) {
        if (p->used[i / 8] & 1u << i % 8)
            return fault(t, i, "used twice");
        p->used[i / 8] |= (uint8_t)(1u << i % 8);
    }
    return 0;
}

static unsigned node_count(const struct page_header *h)
{
    return (unsigned)(h->lower - sizeof *h) / 2;
}

static unsigned node_offset(const uint8_t *page, unsigned i)
{
    uint16_t at;
    memcpy(&at, page + sizeof(struct page_header) + 2 * i, sizeof at);
    return at;
}

/* The node at this offset, whose header is within the page. *size: bytes in the page. */
static struct node node_at(const uint8_t *page, unsigned at, bool leaf, uint64_t *size)
{
    struct node_header h;
    memcpy(&h, page + at, sizeof h);
    uint32_t number = h.low | (uint32_t)h.high << 16;
    struct node n = {.key = page + at + sizeof h, .key_size = h.key_size};
    n.data = n.key + n.key_size;
    *size = sizeof h + n.key_size;
    if (leaf) {
        n.flags = h.flags;
        n.data_size = number;
        *size += n.flags & NODE_BIGDATA ? sizeof(uint64_t) : n.data_size;
    } else {
        n.child = number | (uint64_t)h.flags << 32;
    }
    *size += *size % 2;
    return n;
}

static struct node node_of(const uint8_t *page, unsigned i, bool leaf)
{
    uint64_t size;
    return node_at(page, node_offset(page, i), leaf, &size);
}

/* What is wrong with the nodes' places, or NULL: each is within the page's upper part, and together
 * they fill it. */
static const char *placement_fault(struct pages *p, const uint8_t *page, bool leaf)
{
    struct page_header h;
    memcpy(&h, page, sizeof h);
    if (h.lower < sizeof h || h.lower % 2 != 0 || h.lower > h.upper || h.upper % 2 != 0 ||
        h.upper > p->size)
        return "invalid bounds";
    uint64_t size, total = 0;
    memset(p->taken, 0, p->size / 2);
    for (unsigned i = 0; i < node_count(&h); i++) {
        unsigned at = node_offset(page, i);
        if (at < h.upper || at % 2 != 0 || at > p->size - sizeof(struct node_header))
            return "a node lies outside";
        node_at(page, at, leaf, &size);
        if (size > p->size - at)
            return "a node reaches beyond the end";
        for (uint64_t pair = at / 2; pair < (at + size) / 2; pair++) {
            if (p->taken[pair])
                return "nodes overlap";
            p->taken[pair] = 1;
        }
        total += size;
    }
    return total != p->size - h.upper ? "space that no node uses" : NULL;
}

static int compare_keys(const struct tree *t, const struct node *a, const struct node *b)
{
    if (t->order == KEYS_INTEGER) {
        uint64_t x, y;
        memcpy(&x, a->key, sizeof x);
        memcpy(&y, b->key, sizeof y);
        return (x > y) - (x < y);
    }
    size_t shorter = a->key_size < b->key_size ? a->key_size : b->key_size;
    int order = memcmp(a->key, b->key, shorter);
    return order != 0 ? order : (a->key_size > b->key_size) - (a->key_size < b->key_size);
}

/* low <= keys < high; NULL: no bound. A branch page's first key stands for everything lower and is
 * not compared. */
static const char *key_fault(const struct tree *t, const uint8_t *page, bool leaf,
                             const struct node *low, const struct node *high)
{
    struct page_header h;
    memcpy(&h, page, sizeof h);
    struct node previous;
    for (unsigned i = leaf ? 0 : 1; i < node_count(&h); i++) {
        struct node n = node_of(page, i, leaf);
        if (t->key_size ? n.key_size != t->key_size : n.key_size < 1 || n.key_size > KEY_SIZE_MAX)
            return "invalid size of a key";
        if ((i > (leaf ? 0u : 1u) && compare_keys(t, &previous, &n) >= 0) ||
            (low && compare_keys(t, low, &n) > 0) || (high && compare_keys(t, &n, high) >= 0))
            return "keys out of order";
        previous = n;
    }
    return NULL;
}

/* Reads a page and checks all but what its nodes refer to. */
static int read_page(struct tree *t, uint8_t *page, uint64_t number, bool leaf,
                     const struct node *low, const struct node *high)
{
    struct pages *p = t->p;
    if (use_pages(t, number, 1) != 0 || read_at(p->fd, page, p->size, number * p->size, p->e) != 0)
        return -1;
    struct page_header h;
    memcpy(&h, page, sizeof h);
    if (h.number != number)
        return fault(t, number, "another page's number");
    if (h.flags != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return fault(t, number, leaf ? "not a leaf page" : "not a branch page");
    const char *what = placement_fault(p, page, leaf);
    if (what)
        return fault(t, number, what);
    if (node_count(&h) < (leaf || t->order == KEYS_INTEGER ? 1u : 2u))
        return fault(t, number, "too few nodes");
    what = key_fault(t, page, leaf, low, high);
    return what ? fault(t, number, what) : 0;
}

static uint64_t overflow_page(const struct node *n)
{
    uint64_t number;
    memcpy(&number, n->data, sizeof number);
    return number;
}

static int check_overflow(struct tree *t, uint64_t page, const struct node *n)
{
    struct pages *p = t->p;
    uint64_t number = overflow_page(n);
    uint64_t pages = (sizeof(struct page_header) + n->data_size + p->size - 1) / p->size;
    if (p->scope == SHARD_PAGES_ALL && number < p->whole) {
        struct page_header h;
        if (read_at(p->fd, &h, sizeof h, number * p->size, p->e) != 0)
            return -1;
        if (h.number != number || h.flags != PAGE_OVERFLOW)
            return fault(t, number, "not an overflow page");
        if (h.pages < pages)
            return fault(t, number, "fewer overflow pages than its data need");
        pages = h.pages; /* LMDB leaves spare ones when it replaces data by shorter ones */
    }
    return number < 2 || number >= p->count ? fault(t, page, "a node refers to no page")
                                            : use_pages(t, number, pages);
}

static void announce(const struct pages *p, uint64_t number, size_t size)
{
    posix_fadvise(p->fd, (off_t)(number * p->size), (off_t)size, POSIX_FADV_WILLNEED);
}

static int walk_leaf(struct tree *t, uint64_t number, const uint8_t *page)
{
    struct page_header h;
    memcpy(&h, page, sizeof h);
    unsigned count = node_count(&h);
    for (unsigned i = 0; t->p->scope == SHARD_PAGES_ALL && i < count; i++) {
        struct node n = node_of(page, i, true);
        if (n.flags & NODE_BIGDATA)
            announce(t->p, overflow_page(&n), sizeof h);
    }
    for (unsigned i = 0; i < count; i++) {
        struct node n = node_of(page, i, true);
        if (n.flags > NODE_BIGDATA && !(t->found && n.flags == NODE_SUBDATA))
            return fault(t, number, "invalid flags of a node");
        if (n.flags == NODE_BIGDATA && check_overflow(t, number, &n) != 0)
            return -1;
        if (t->visit && t->visit(t, number, &n) != 0)
            return -1;
    }
    t->entries += count;
    return 0;
}

static int walk(struct tree *t, uint64_t number, int level, const struct node *low,
                const struct node *high);

static int walk_branch(struct tree *t, int level, const uint8_t *page, const struct node *low,
                       const struct node *high)
{
    struct page_header h;
    memcpy(&h, page, sizeof h);
    unsigned count = node_count(&h);
    for (unsigned i = 0; i < count; i++)
        announce(t->p, node_of(page, i, false).child, t->p->size);
    struct node n = node_of(page, 0, false), next;
    for (unsigned i = 0; i < count; i++, n = next) {
        if (i + 1 < count)
            next = node_of(page, i + 1, false);
        if (walk(t, n.child, level + 1, i == 0 ? low : &n, i + 1 < count ? &next : high) != 0)
            return -1;
    }
    return 0;
}

/* All leaves are at the level of the tree's depth. */
static int walk(struct tree *t, uint64_t number, int level, const struct node *low,
                const struct node *high)
{
    bool leaf = level == t->record.depth;
    uint8_t *page = xmalloc(t->p->size);
    int status = read_page(t, page, number, leaf, low, high);
    if (status == 0)
        status = leaf ? walk_leaf(t, number, page) : walk_branch(t, level, page, low, high);
    free(page);
    return status;
}

static int check_tree(struct tree *t)
{
    const struct database *d = &t->record;
    struct error *e = t->p->e;
    bool empty = d->root == NO_PAGE;
    if (d->depth > DEPTH_MAX || empty != (d->depth == 0))
        return error_set(e, "damaged: %s: depth %d", t->name, d->depth);
    if (!empty && walk(t, d->root, 1, NULL, NULL) != 0)
        return -1;
    return t->entries != d->entries
               ? error_set(e, "damaged: %s: %" PRIu64 " entries, but %" PRIu64 " are recorded",
                           t->name, t->entries, d->entries)
               : 0;
}

static int visit_main(struct tree *t, uint64_t page, const struct node *n)
{
    if (n->flags != NODE_SUBDATA)
        return 0;
    if (n->data_size != sizeof(struct database))
        return fault(t, page, "invalid size of a database record");
    for (int i = 0; i < DATABASES; i++) {
        const char *name = database_names[i];
        if (n->key_size != strlen(name) || memcmp(n->key, name, n->key_size) != 0)
            continue;
        memcpy(&t->found[i], n->data, sizeof t->found[i]);
        if (t->found[i].flags != 0)
            return fault(t, page, "invalid flags of a database");
    }
    return 0;
}

/* A value of the free list: a count, then page numbers in descending order. */
static int check_free_pages(struct tree *t, uint64_t page, const uint64_t *list, uint64_t room)
{
    if (list[0] > room)
        return fault(t, page, "a free list longer than its value");
    for (uint64_t i = 1; i <= list[0]; i++) {
        if (list[i] < 2 || list[i] >= t->p->count || (i > 1 && list[i] >= list[i - 1]))
            return fault(t, page, "invalid page number in a free list");
        if (list[i] >= t->p->whole)
            t->p->free_beyond_file++;
        else if (use_pages(t, list[i], 1) != 0)
            return -1;
    }
    return 0;
}

static int visit_free_list(struct tree *t, uint64_t page, const struct node *n)
{
    struct pages *p = t->p;
    uint64_t transaction;
    memcpy(&transaction, n->key, sizeof transaction);
    if (transaction < 1 || transaction > p->transaction)
        return fault(t, page, "invalid transaction in the free list");
    if (n->data_size < sizeof(uint64_t) || n->data_size % sizeof(uint64_t) != 0)
        return fault(t, page, "invalid size of a free list");
    uint64_t *list = xmalloc(n->data_size);
    int status = 0;
    if (n->flags & NODE_BIGDATA)
        status = read_at(p->fd, list, n->data_size,
                         overflow_page(n) * p->size + sizeof(struct page_header), p->e);
    else
        memcpy(list, n->data, n->data_size);
    if (status == 0)
        status = check_free_pages(t, page, list, n->data_size / sizeof *list - 1);
    free(list);
    return status;
}

static int check_free_list(struct pages *p, const struct meta *m)
{
    struct tree t = {.p = p,
                     .name = "free list",
                     .record = m->free_list,
                     .order = KEYS_INTEGER,
                     .key_size = sizeof(uint64_t),
                     .visit = visit_free_list};
    if (check_tree(&t) != 0)
        return -1;
    uint64_t beyond = p->count > p->whole ? p->count - p->whole : 0;
    if (p->free_beyond_file != beyond)
        return error_set(p->e, "truncated: %" PRIu64 " bytes, but %" PRIu64 " are in use",
                         p->file_size, p->count * p->size);
    return 0;
}

static int check_databases(struct pages *p, const struct meta *m)
{
    struct database found[DATABASES];
    static const size_t key_sizes[DATABASES] = {8, 0, PATH_KEY_SIZE};
    for (int i = 0; i < DATABASES; i++)
        found[i] = (struct database){.root = NO_PAGE};
    struct tree top = {
        .p = p, .name = "main database", .record = m->main, .visit = visit_main, .found = found};
    if (check_tree(&top) != 0)
        return -1;
    for (int i = 0; i < DATABASES; i++) {
        struct tree t = {
            .p = p, .name = database_names[i], .record = found[i], .key_size = key_sizes[i]};
        if ((i != PATHS || p->scope == SHARD_PAGES_ALL) && check_tree(&t) != 0)
            return -1;
    }
    return p->scope == SHARD_PAGES_ALL ? check_free_list(p, m) : 0;
}

int shard_pages_check(int fd, uint64_t transaction, enum shard_pages_scope scope, struct error *e)
{
    struct meta m[2];
    struct stat st;
    if (read_meta_pages(fd, m, e) != 0)
        return -1;
    const struct meta *snapshot = &m[transaction % 2];
    if (snapshot->transaction != transaction)
        return error_set(e, "damaged: meta pages: no transaction %" PRIu64, transaction);
    if (fstat(fd, &st) != 0)
        return error_errno(e, "cannot read");
    struct pages *p = xcalloc(1, sizeof *p);
    p->fd = fd;
    p->scope = scope;
    p->size = snapshot->free_list.pad;
    p->file_size = (uint64_t)st.st_size;
    p->count = snapshot->last_page + 1;
    p->whole = p->file_size / p->size;
    p->transaction = transaction;
    p->used = xcalloc(p->whole / 8 + 1, 1);
    p->e = e;
    int status = check_databases(p, snapshot);
    free(p->used);
    free(p);
    return status;
}
