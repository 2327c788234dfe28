#include "formats/shards/lmdb_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"

int lmdb_read_at(int fd, void *out, size_t size, uint64_t at, struct error *e)
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

int lmdb_fault(struct tree *t, uint64_t page, const char *what)
{
    return error_set(t->p->e, "damaged: page %" PRIu64 " (%s): %s", page, t->name, what);
}

int lmdb_use_pages(struct tree *t, uint64_t number, uint64_t n)
{
    struct pages *p = t->p;
    if (number < 2 || number >= p->count || n > p->count - number)
        return lmdb_fault(t, number, "no such page");
    if (number + n > p->whole)
        return error_set(p->e, "truncated: %" PRIu64 " bytes, but %" PRIu64 " are in use",
                         p->file_size, (number + n) * p->size);
    for (uint64_t i = number; i < number + n; i++) {
        if (p->used[i / 8] & 1u << i % 8)
            return lmdb_fault(t, i, "used twice");
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
    struct node previous = {0};
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
    if (lmdb_use_pages(t, number, 1) != 0 ||
        lmdb_read_at(p->fd, page, p->size, number * p->size, p->e) != 0)
        return -1;
    struct page_header h;
    memcpy(&h, page, sizeof h);
    if (h.number != number)
        return lmdb_fault(t, number, "another page's number");
    if (h.flags != (leaf ? PAGE_LEAF : PAGE_BRANCH))
        return lmdb_fault(t, number, leaf ? "not a leaf page" : "not a branch page");
    const char *what = placement_fault(p, page, leaf);
    if (what)
        return lmdb_fault(t, number, what);
    if (node_count(&h) < (leaf || t->order == KEYS_INTEGER ? 1u : 2u))
        return lmdb_fault(t, number, "too few nodes");
    what = key_fault(t, page, leaf, low, high);
    return what ? lmdb_fault(t, number, what) : 0;
}

uint64_t lmdb_overflow_page(const struct node *n)
{
    uint64_t number;
    memcpy(&number, n->data, sizeof number);
    return number;
}

static int check_overflow(struct tree *t, uint64_t page, const struct node *n)
{
    struct pages *p = t->p;
    uint64_t number = lmdb_overflow_page(n);
    uint64_t pages = (sizeof(struct page_header) + n->data_size + p->size - 1) / p->size;
    if (p->scope == SHARD_PAGES_ALL && number < p->whole) {
        struct page_header h;
        if (lmdb_read_at(p->fd, &h, sizeof h, number * p->size, p->e) != 0)
            return -1;
        if (h.number != number || h.flags != PAGE_OVERFLOW)
            return lmdb_fault(t, number, "not an overflow page");
        if (h.pages < pages)
            return lmdb_fault(t, number, "fewer overflow pages than its data need");
        pages = h.pages; /* LMDB leaves spare ones when it replaces data by shorter ones */
    }
    return number < 2 || number >= p->count ? lmdb_fault(t, page, "a node refers to no page")
                                            : lmdb_use_pages(t, number, pages);
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
            announce(t->p, lmdb_overflow_page(&n), sizeof h);
    }
    for (unsigned i = 0; i < count; i++) {
        struct node n = node_of(page, i, true);
        if (n.flags > NODE_BIGDATA && !(t->found && n.flags == NODE_SUBDATA))
            return lmdb_fault(t, number, "invalid flags of a node");
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

int lmdb_check_tree(struct tree *t)
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
