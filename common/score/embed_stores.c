#include "common/score/embed_stores.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/score/embeddings.h"
#include "common/score/signature.h"

#define BLOCK          EMBED_CACHE_BLOCK
#define BLOCKS         64   /* scanned, and added to the cache, together */
#define NORM_TOLERATED 0.01 /* as shard_record_check_values */

/* Whether store `number` has embeddings like those of the first. */
static int check_match(const struct embed_stores *s, int number, struct error *e)
{
    const struct shard_info *info = shard_store_info(s->stores[number]);
    const struct shard_info *first = shard_store_info(s->stores[0]);
    int status = shard_model_check("CLOOB", &info->cloob, &first->cloob, e);
    if (status == 0 && info->embed_size != first->embed_size)
        status = error_set(e, "made with embeddings of size %d, not %d", info->embed_size,
                           first->embed_size);
    if (status != 0)
        error_prefix(e, "store '%s' does not match '%s'", s->folders.items[number],
                     s->folders.items[0]);
    return status;
}

int embed_stores_open(struct embed_stores *s, enum embed_cache_kind kind, const char *const *names,
                      int n, struct error *e)
{
    bool signatures = kind == EMBED_CACHE_THUMBNAILS;
    *s = (struct embed_stores){.rows.kind = kind, .use_cache = true};
    if (shard_folders_expand(&s->folders, names, n, SHARD_PARTS_FILLED, e) != 0 ||
        shard_folders_check_distinct(&s->folders, e) != 0)
        return error_prefix(e, "cannot read the stores");
    int count = s->folders.count;
    s->stores = xcalloc((size_t)count, sizeof(struct shard_store *));
    s->first = xcalloc((size_t)count + 1, sizeof *s->first);
    for (int i = 0; i < count; i++) {
        const char *folder = s->folders.items[i];
        if (shard_store_open(&s->stores[i], folder, e) != 0)
            return error_prefix(e, "cannot read store '%s'", folder);
        if (!signatures && check_match(s, i, e) != 0)
            return -1;
        s->width = signatures ? SIGNATURE_WIDTH : shard_store_info(s->stores[i])->embed_size;
        s->count += shard_store_count(s->stores[i]);
        s->first[i + 1] = s->count;
    }
    s->rows.width = s->width;
    return 0;
}

void embed_stores_close(struct embed_stores *s)
{
    for (int i = 0; i < s->folders.count && s->stores; i++)
        shard_store_close(s->stores[i]);
    shard_folders_release(&s->folders);
    free(s->stores);
    free(s->first);
    *s = (struct embed_stores){0};
}

int embed_stores_check(const struct embed_stores *s, const struct model_part *cloob,
                       struct error *e)
{
    if (model_part_check(cloob, &shard_store_info(s->stores[0])->cloob, e) != 0)
        return error_prefix(e, "cannot search store '%s'", s->folders.items[0]);
    return 0;
}

/* The scan of one store. */
struct scan {
    struct shard_store *store;
    const char *folder;
    struct embed_cache_rows of;
    int64_t first, count, width; /* first: the number of its first record */
    struct embed_cache cache;
    bool cached;
    _Atomic int64_t damaged, bare; /* bare: without a thumbnail */
    atomic_bool cache_damaged;
    struct shard_record *records; /* [threads] */
    int64_t from;                 /* what is being scanned begins at this index */
    float *rows;                  /* [BLOCKS * BLOCK, width], unless they are in the cache */
    embeds_visit *visit;
    void *context;
};

#define BARE 1

/* Fails if the embedding could not be one: its values would be the best of all. BARE: the record
 * has no thumbnail. */
static int read_row(const struct scan *s, float *row, int64_t index, struct shard_record *r,
                    struct error *e)
{
    const struct shard_info *info = shard_store_info(s->store);
    if (shard_store_read(s->store, index, r, e) != 0)
        return -1;
    if (s->of.kind == EMBED_CACHE_THUMBNAILS) {
        if (r->thumbnail)
            signature_make(row, r->thumbnail);
        return r->thumbnail ? 0 : BARE;
    }
    dtype_to_f32(row, info->embed_dtype, r->embed, (size_t)s->width);
    double norm = sqrt(embeddings_cosine(row, row, s->width));
    if (!(fabs(norm - 1) <= NORM_TOLERATED))
        return error_set(e, "'%s': its embedding has the length %g, not 1", r->path, norm);
    return 0;
}

static void read_rows(struct scan *s, float *rows, int64_t index, int64_t n, struct shard_record *r)
{
    struct error e;
    for (int64_t i = 0; i < n; i++) {
        float *row = rows + i * s->width;
        int status = read_row(s, row, index + i, r, &e);
        if (status == 0)
            continue;
        if (status != BARE)
            warn("cannot read record %" PRId64 " of store '%s': %s", index + i, s->folder, e.text);
        atomic_fetch_add(status == BARE ? &s->bare : &s->damaged, 1);
        for (int64_t j = 0; j < s->width; j++)
            row[j] = NAN;
    }
}

static void scan_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    struct scan *s = arg;
    for (int64_t block = begin; block < end; block++) {
        int64_t index = s->from + block * BLOCK, left = s->count - index;
        int64_t n = left < BLOCK ? left : BLOCK;
        bool whole = s->cached && embed_cache_check(&s->cache, index / BLOCK);
        float *own = s->rows + block * BLOCK * s->width;
        if (!whole)
            read_rows(s, own, index, n, &s->records[worker]);
        const float *rows = whole ? s->cache.rows + index * s->width : own;
        if (s->cached && !whole)
            atomic_store(&s->cache_damaged, true);
        s->visit(s->context, rows, s->first + index, n, worker);
    }
}

static void note_no_cache(const struct scan *s, const struct error *why)
{
    note("no cache '%s/%s': %s", s->folder, embed_cache_name(s->of.kind), why->text);
}

/* Adds to the cache that is being made; a failure only costs the cache. */
static void add_to_cache(struct embed_cache_writer *w, bool *making, const struct scan *s,
                         int64_t n)
{
    struct error e;
    if (!*making)
        return;
    bool last = w->written + n == s->count;
    int status = s->damaged ? error_set(&e, "damaged records are never cached")
                 : s->bare  ? error_set(&e, "some records have no thumbnail")
                            : embed_cache_append(w, s->rows, n, &e);
    if (status != 0)
        embed_cache_abandon(w);
    else if (last)
        status = embed_cache_finish(w, s->store, &e);
    if (status != 0)
        note_no_cache(s, &e);
    *making = status == 0 && !last;
}

static void scan_all(struct scan *s, bool use_cache)
{
    struct embed_cache_writer w;
    struct error e;
    struct progress *progress = NULL;
    bool making = use_cache && !s->cached;
    if (making && embed_cache_create(&w, s->folder, s->store, &s->of, &e) != 0) {
        note_no_cache(s, &e);
        making = false;
    }
    if (!s->cached)
        progress = progress_start("reading", "records", s->count);
    for (s->from = 0; s->from < s->count; s->from += BLOCKS * BLOCK) {
        int64_t left = s->count - s->from, n = left < BLOCKS * BLOCK ? left : BLOCKS * BLOCK;
        parallel_for((n + BLOCK - 1) / BLOCK, 1, scan_blocks, s);
        add_to_cache(&w, &making, s, n);
        progress_update(progress, s->from + n, NULL);
    }
    progress_finish(progress);
}

static void open_cache(struct scan *s)
{
    struct error e;
    s->cached = embed_cache_open(&s->cache, s->folder, s->store, &s->of, &e) == 0;
    if (!s->cached && e.text[0])
        note("ignoring '%s/%s': %s", s->folder, embed_cache_name(s->of.kind), e.text);
}

static void scan_store(struct embed_stores *all, int number, embeds_visit *visit, void *context)
{
    size_t threads = (size_t)threads_count();
    struct scan s = {.store = all->stores[number],
                     .folder = all->folders.items[number],
                     .of = all->rows,
                     .first = all->first[number],
                     .count = shard_store_count(all->stores[number]),
                     .width = all->width,
                     .visit = visit,
                     .context = context};
    s.records = xcalloc(threads, sizeof *s.records);
    s.rows = xmalloc((size_t)(BLOCKS * BLOCK * s.width) * sizeof *s.rows);
    for (size_t i = 0; i < threads; i++)
        shard_record_init(&s.records[i]);
    if (all->use_cache)
        open_cache(&s);
    scan_all(&s, all->use_cache);
    if (s.cache_damaged) {
        note("'%s/%s' is damaged and has been deleted", s.folder, embed_cache_name(s.of.kind));
        embed_cache_remove(s.folder, s.of.kind);
    }
    if (s.bare)
        warn("%" PRId64 " of %" PRId64 " record%s of store '%s' without a thumbnail, made before "
             "there were any: encode again, or compare --by embeddings",
             s.bare, s.count, plural(s.count), s.folder);
    all->damaged += s.damaged + s.bare;
    for (size_t i = 0; i < threads; i++)
        shard_record_release(&s.records[i]);
    embed_cache_close(&s.cache);
    free(s.records);
    free(s.rows);
}

void embed_stores_scan(struct embed_stores *s, embeds_visit *visit, void *context)
{
    s->damaged = 0;
    for (int i = 0; i < s->folders.count; i++)
        scan_store(s, i, visit, context);
}

static int number_of(const struct embed_stores *s, int64_t record)
{
    int number = 0;
    while (record >= s->first[number + 1])
        number++;
    return number;
}

const char *embed_stores_locate(const struct embed_stores *s, int64_t record, int64_t *index)
{
    int number = number_of(s, record);
    *index = record - s->first[number];
    return s->folders.items[number];
}

int embed_stores_path(struct embed_stores *s, int64_t record, char **path, struct error *e)
{
    int64_t index;
    const char *folder = embed_stores_locate(s, record, &index);
    struct shard_record r;
    shard_record_init(&r);
    int status = shard_store_read(s->stores[number_of(s, record)], index, &r, e);
    if (status == 0)
        *path = xstrdup(r.path);
    else
        error_prefix(e, "cannot read record %" PRId64 " of store '%s'", index, folder);
    shard_record_release(&r);
    return status == 0 ? 0 : -1;
}
