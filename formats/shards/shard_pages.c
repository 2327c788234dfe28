#include "formats/shards/shard_pages.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/message.h"
#include "formats/shards/lmdb_pages.h"
#include "formats/shards/path_set.h"

enum { SAMPLES, META, PATHS, DATABASES };
static const char *const database_names[DATABASES] = {"samples", "meta", "paths"};

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
    if (lmdb_read_at(fd, &m[0], sizeof m[0], 0, e) != 0)
        return -1;
    size_t page_size = m[0].free_list.pad;
    if (check_meta_page(&m[0], 0, page_size, e) != 0 ||
        lmdb_read_at(fd, &m[1], sizeof m[1], page_size, e) != 0 ||
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

static int visit_main(struct tree *t, uint64_t page, const struct node *n)
{
    if (n->flags != NODE_SUBDATA)
        return 0;
    if (n->data_size != sizeof(struct database))
        return lmdb_fault(t, page, "invalid size of a database record");
    for (int i = 0; i < DATABASES; i++) {
        const char *name = database_names[i];
        if (n->key_size != strlen(name) || memcmp(n->key, name, n->key_size) != 0)
            continue;
        memcpy(&t->found[i], n->data, sizeof t->found[i]);
        if (t->found[i].flags != 0)
            return lmdb_fault(t, page, "invalid flags of a database");
    }
    return 0;
}

/* A value of the free list: a count, then page numbers in descending order. */
static int check_free_pages(struct tree *t, uint64_t page, const uint64_t *list, uint64_t room)
{
    if (list[0] > room)
        return lmdb_fault(t, page, "a free list longer than its value");
    for (uint64_t i = 1; i <= list[0]; i++) {
        if (list[i] < 2 || list[i] >= t->p->count || (i > 1 && list[i] >= list[i - 1]))
            return lmdb_fault(t, page, "invalid page number in a free list");
        if (list[i] >= t->p->whole)
            t->p->free_beyond_file++;
        else if (lmdb_use_pages(t, list[i], 1) != 0)
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
        return lmdb_fault(t, page, "invalid transaction in the free list");
    if (n->data_size < sizeof(uint64_t) || n->data_size % sizeof(uint64_t) != 0)
        return lmdb_fault(t, page, "invalid size of a free list");
    uint64_t *list = xmalloc(n->data_size);
    int status = 0;
    if (n->flags & NODE_BIGDATA)
        status = lmdb_read_at(p->fd, list, n->data_size,
                              lmdb_overflow_page(n) * p->size + sizeof(struct page_header), p->e);
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
    if (lmdb_check_tree(&t) != 0)
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
    if (lmdb_check_tree(&top) != 0)
        return -1;
    for (int i = 0; i < DATABASES; i++) {
        struct tree t = {
            .p = p, .name = database_names[i], .record = found[i], .key_size = key_sizes[i]};
        if ((i != PATHS || p->scope == SHARD_PAGES_ALL) && lmdb_check_tree(&t) != 0)
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
