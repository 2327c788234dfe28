#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

#define MAP_SIZE_DEFAULT ((size_t)64 << 20)
/* What a new shard and small transactions take; pages of LMDB are up to 32 KiB, those of the system
 * up to 64 KiB. */
#define MAP_PAGES_LEAST 32

struct shard_writer {
    char *folder;
    int folder_fd; /* holds the flock that excludes a second writer */
    struct shard_info info;
    int64_t shard_size;
    size_t map_size;
    ZSTD_CCtx *zstd;

    pthread_mutex_t mutex; /* guards what follows: a put remaps and adds shards during lookups */
    struct shard *shards;
    int count;
    int last_hit;    /* the shard of the last path found: a rerun looks paths up in order */
    bool unfinished; /* this run has put records, and the last shard is marked unfinished */
};

/* Where an item of a batch is stored, and its bytes. */
struct placement {
    int shard;
    int64_t index;
    bool replaces;
    uint8_t key[PATH_KEY_SIZE];
    uint8_t *frame;
    size_t frame_size;
    uint16_t *moments; /* F16, as stored */
};

static struct shard *add_slot(struct shard_writer *w)
{
    w->shards = xrealloc(w->shards, (size_t)(w->count + 1) * sizeof *w->shards);
    return &w->shards[w->count];
}

static int open_existing(struct shard_writer *w, struct error *e)
{
    int shards;
    char *foreign;
    if (shard_folder_joining(w->folder))
        return error_set(e, SHARD_JOIN_INTERRUPTED);
    if (shard_folder_removing(w->folder))
        return error_set(e, SHARD_REMOVAL_INTERRUPTED);
    if (shard_folder_list(w->folder, &shards, &foreign, e) != 0) {
        free(foreign);
        return -1;
    }
    if (foreign && shards == 0) {
        error_set(e, SHARD_FOLDER_FOREIGN, foreign);
        free(foreign);
        return -1;
    }
    if (foreign) {
        warn("ignoring '%s/%s': not part of a shard store", w->folder, foreign);
        free(foreign);
    }
    for (int i = 0; i < shards; i++) {
        struct shard *s = add_slot(w);
        if (shard_open(s, w->folder, i, SHARD_WRITE, e) != 0)
            return -1;
        w->count++;
        if (shard_info_check(&s->info, &w->info, e) != 0)
            return error_prefix(e, "%s", s->name);
    }
    return 0;
}

int shard_writer_open(struct shard_writer **out, const char *folder, const struct shard_info *info,
                      const struct shard_writer_options *options, struct error *e)
{
    if (make_directories(folder, e) != 0)
        return -1;
    struct shard_writer *w = xcalloc(1, sizeof *w);
    w->folder = xstrdup(folder);
    w->info = *info;
    w->shard_size = options->shard_size ? options->shard_size : SHARD_SIZE_DEFAULT;
    w->map_size = options->map_size ? options->map_size : MAP_SIZE_DEFAULT;
    size_t least = MAP_PAGES_LEAST * (size_t)sysconf(_SC_PAGESIZE);
    w->map_size = w->map_size < least ? least : w->map_size;
    w->zstd = xallocated(ZSTD_createCCtx());
    CHECK(w->shard_size > 0);
    pthread_mutex_init(&w->mutex, NULL);
    if (shard_folder_lock(&w->folder_fd, folder, e) != 0 || open_existing(w, e) != 0) {
        shard_writer_close(w);
        return -1;
    }
    shard_folder_clean(folder);
    *out = w;
    return 0;
}

void shard_writer_close(struct shard_writer *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->count; i++)
        shard_close(&w->shards[i]);
    free(w->shards);
    if (w->folder_fd >= 0)
        close(w->folder_fd);
    pthread_mutex_destroy(&w->mutex);
    ZSTD_freeCCtx(w->zstd);
    free(w->folder);
    free(w);
}

int shard_writer_lookup(struct shard_writer *w, const char *path, int64_t size, int64_t mtime_ns,
                        struct shard_path_found *found, struct error *e)
{
    uint8_t key[PATH_KEY_SIZE];
    struct shard_path_value v;
    path_key(key, path);
    pthread_mutex_lock(&w->mutex);
    int shard = shard_find_path(w->shards, w->count, &w->last_hit, key, &v, e);
    pthread_mutex_unlock(&w->mutex);
    if (shard == -2)
        return -1;
    *found = (struct shard_path_found){.state = SHARD_PATH_NEW};
    if (shard == -1)
        return 0;
    bool same = v.size == size && v.mtime_ns == mtime_ns;
    found->state = same ? SHARD_PATH_DONE : SHARD_PATH_CHANGED;
    found->hashed = v.hashed;
    if (v.hashed)
        memcpy(found->hash, v.hash, sizeof found->hash);
    return 0;
}

/* Returns LMDB's code. */
static int each_hash(struct shard *s, void (*each)(void *arg, const uint8_t *hash), void *arg)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    struct shard_path_value entry;
    int code = shard_txn_begin(s, false, &txn);
    if (code != 0)
        return code;
    code = mdb_cursor_open(txn, s->paths, &cursor);
    while (code == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        if (shard_path_value_parse(&entry, &value))
            each(arg, entry.hashed ? entry.hash : NULL);
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    return code == MDB_NOTFOUND ? 0 : code;
}

int shard_writer_each_hash(struct shard_writer *w, void (*each)(void *arg, const uint8_t *hash),
                           void *arg, struct error *e)
{
    int status = 0;
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->count && status == 0; i++) {
        int code = each_hash(&w->shards[i], each, arg);
        status = code != 0 ? shard_error(e, &w->shards[i], "cannot read its paths", code) : 0;
    }
    pthread_mutex_unlock(&w->mutex);
    return status;
}

/* Decides where each item is stored: in place of its old record, or after the last record. */
static int place(struct shard_writer *w, struct placement *p, int n, struct error *e)
{
    int shard = w->count - 1;
    int64_t index = shard >= 0 ? w->shards[shard].count : w->shard_size;
    for (int i = 0; i < n; i++) {
        struct shard_path_value found;
        int old = shard_find_path(w->shards, w->count, &w->last_hit, p[i].key, &found, e);
        if (old == -2)
            return -1;
        p[i].replaces = old >= 0;
        if (p[i].replaces) {
            p[i].shard = old;
            p[i].index = found.index;
            continue;
        }
        if (index >= w->shard_size) {
            shard++;
            index = 0;
        }
        p[i].shard = shard;
        p[i].index = index++;
    }
    return 0;
}

/* Computes the statistics of all readable records but one. */
static int recount(struct shard *s, MDB_txn *txn, const MDB_val *except,
                   struct latent_statistics *statistics, struct shard_record *r, struct error *e)
{
    MDB_cursor *cursor;
    MDB_val key, frame;
    struct error unreadable;
    int code = mdb_cursor_open(txn, s->samples, &cursor);
    if (code != 0)
        return shard_error(e, s, "cannot read", code);
    *statistics = (struct latent_statistics){0};
    while ((code = mdb_cursor_get(cursor, &key, &frame, MDB_NEXT)) == 0) {
        bool excepted = key.mv_size == except->mv_size &&
                        memcmp(key.mv_data, except->mv_data, key.mv_size) == 0;
        if (!excepted && shard_value_read(r, &frame, &s->info, &unreadable) == 0)
            latent_statistics_add(statistics, &s->info, r->moments, 1);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : shard_error(e, s, "cannot read", code);
}

/* Subtracts the contribution of a record that is about to be replaced from the statistics. If the
 * record is damaged, so that its contribution is unknown, recomputes them from all others. */
static int forget_old(struct shard *s, MDB_txn *txn, MDB_val *key, struct latent_statistics *st,
                      struct error *e)
{
    MDB_val frame;
    int status = 0, code = mdb_get(txn, s->samples, key, &frame);
    if (code != 0)
        return shard_error(e, s, "cannot read the record to replace", code);
    struct shard_record r;
    shard_record_init(&r);
    if (shard_value_read(&r, &frame, &s->info, e) == 0)
        latent_statistics_add(st, &s->info, r.moments, -1);
    else
        status = recount(s, txn, key, st, &r, e);
    shard_record_release(&r);
    return status;
}

/* Returns LMDB's code, or -1 with e filled. */
static int put_one(struct shard *s, MDB_txn *txn, const struct shard_item *item,
                   const struct placement *p, struct latent_statistics *statistics, struct error *e)
{
    uint8_t index[8], entry[SHARD_PATH_VALUE_MOST];
    struct shard_path_value v = {
        .size = item->size, .mtime_ns = item->mtime_ns, .index = p->index, .hashed = item->hash};
    if (item->hash)
        memcpy(v.hash, item->hash, sizeof v.hash);
    shard_put_be64(index, (uint64_t)p->index);
    MDB_val key = {.mv_size = sizeof index, .mv_data = index};
    MDB_val frame = {.mv_size = p->frame_size, .mv_data = p->frame};
    if (p->replaces && forget_old(s, txn, &key, statistics, e) != 0)
        return -1;
    int code = mdb_put(txn, s->samples, &key, &frame, p->replaces ? 0 : MDB_APPEND);
    if (code != 0)
        return code;
    MDB_val path = {.mv_size = PATH_KEY_SIZE, .mv_data = (void *)p->key};
    MDB_val value = {.mv_size = shard_path_value_pack(entry, &v), .mv_data = entry};
    code = mdb_put(txn, s->paths, &path, &value, p->replaces ? 0 : MDB_NOOVERWRITE);
    if (code == 0)
        latent_statistics_add(statistics, &s->info, p->moments, 1);
    return code;
}

/* Attempts one transaction with the items placed in this shard and its meta record. Items make it a
 * shard of this version. Returns LMDB's code, or -1 with e filled. The shard's fields change only
 * if it succeeds. */
static int try_commit(struct shard *s, int number, const struct shard_item *items,
                      const struct placement *p, int n, bool finished, struct error *e)
{
    MDB_txn *txn;
    int code = shard_txn_begin(s, true, &txn);
    if (code != 0)
        return code;
    struct latent_statistics statistics = s->statistics;
    int64_t count = s->count;
    int version = s->version;
    if (n > 0)
        s->version = SHARD_VERSION;
    for (int i = 0; code == 0 && i < n; i++) {
        if (p[i].shard == number) {
            code = put_one(s, txn, &items[i], &p[i], &statistics, e);
            count += !p[i].replaces;
        }
    }
    if (code == 0)
        code = shard_put_meta(s, txn, &statistics, finished);
    if (code != 0)
        mdb_txn_abort(txn);
    else
        code = mdb_txn_commit(txn);
    if (code == 0) {
        s->statistics = statistics;
        s->count = count;
        s->finished = finished;
    } else {
        s->version = version;
    }
    return code;
}

static int commit(struct shard *s, int number, const struct shard_item *items,
                  const struct placement *p, int n, bool finished, struct error *e)
{
    for (;;) {
        int code = try_commit(s, number, items, p, n, finished, e);
        if (code == MDB_MAP_FULL) {
            if (shard_grow_map(s, e) != 0)
                return -1;
        } else if (code == MDB_KEYEXIST) {
            return error_set(e, "%s: duplicate path in one batch, or damaged keys", s->name);
        } else if (code == -1) {
            return -1;
        } else {
            return code != 0 ? shard_error(e, s, "cannot write", code) : 0;
        }
    }
}

static int add_shard(struct shard_writer *w, struct error *e)
{
    struct shard *s = add_slot(w);
    if (shard_create(w->folder, w->count, &w->info, w->map_size, e) != 0 ||
        shard_open(s, w->folder, w->count, SHARD_WRITE, e) != 0)
        return -1;
    int previous = w->count++ - 1;
    return previous < 0 ? 0 : commit(&w->shards[previous], previous, NULL, NULL, 0, true, e);
}

static int put_placed(struct shard_writer *w, const struct shard_item *items,
                      const struct placement *p, int n, struct error *e)
{
    int last = w->count - 1, highest = last;
    if (!w->unfinished && last >= 0 && w->shards[last].finished &&
        commit(&w->shards[last], last, NULL, NULL, 0, false, e) != 0)
        return -1;
    w->unfinished = true;
    for (int i = 0; i < n; i++)
        highest = p[i].shard > highest ? p[i].shard : highest;
    for (int number = 0; number <= highest; number++) {
        bool touched = false;
        for (int i = 0; i < n; i++)
            touched |= p[i].shard == number;
        if (!touched)
            continue;
        if (number == w->count && add_shard(w, e) != 0)
            return -1;
        struct shard *s = &w->shards[number];
        if (commit(s, number, items, p, n, s->finished, e) != 0)
            return -1;
    }
    return 0;
}

int shard_writer_put(struct shard_writer *w, const struct shard_item *items, int n, struct error *e)
{
    struct placement *p = xcalloc((size_t)n, sizeof *p);
    size_t moments = 2 * shard_latent_count(&w->info);
    uint16_t *f16 = xmalloc((size_t)n * moments * sizeof *f16);
    int status = 0;
    for (int i = 0; status == 0 && i < n; i++) {
        path_key(p[i].key, items[i].path);
        p[i].moments = f16 + (size_t)i * moments;
        status = shard_item_check(&items[i], &w->info, e);
        if (status == 0) {
            status = shard_value_make(&p[i].frame, &p[i].frame_size, p[i].moments, w->zstd,
                                      &items[i], &w->info, e);
        }
        if (status != 0)
            error_prefix(e, "'%s'", items[i].path);
    }
    if (status == 0) {
        pthread_mutex_lock(&w->mutex);
        status = place(w, p, n, e);
        if (status == 0)
            status = put_placed(w, items, p, n, e);
        pthread_mutex_unlock(&w->mutex);
    }
    for (int i = 0; i < n; i++)
        free(p[i].frame);
    free(p);
    free(f16);
    return status;
}

int shard_writer_finish(struct shard_writer *w, struct error *e)
{
    pthread_mutex_lock(&w->mutex);
    int last = w->count - 1, status = 0;
    if (last >= 0 && !w->shards[last].finished)
        status = commit(&w->shards[last], last, NULL, NULL, 0, true, e);
    pthread_mutex_unlock(&w->mutex);
    return status;
}

const struct shard_info *shard_writer_info(const struct shard_writer *w)
{
    return &w->info;
}

int64_t shard_writer_count(struct shard_writer *w)
{
    int64_t count = 0;
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->count; i++)
        count += w->shards[i].count;
    pthread_mutex_unlock(&w->mutex);
    return count;
}

struct latent_statistics shard_writer_statistics(struct shard_writer *w)
{
    struct latent_statistics all = {0};
    pthread_mutex_lock(&w->mutex);
    for (int i = 0; i < w->count; i++)
        latent_statistics_merge(&all, &w->shards[i].statistics);
    pthread_mutex_unlock(&w->mutex);
    return all;
}
