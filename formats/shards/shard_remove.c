#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/embed_cache.h"
#include "formats/shards/shard_internal.h"

#define BATCH         1000 /* records per transaction */
#define JOURNAL_LIMIT ((size_t)8 * SHARDS_MAX)
#define MAP_LEAST     ((size_t)64 << 20)

struct shard_remover {
    char *folder;
    int fd; /* holds a writer's lock */
    struct shard *shards;
    int count, last_hit;
    int64_t records;
};

/* What a shard becomes, under a name of its own until all are complete. */
static char *kept_file(const struct shard_remover *r, int number)
{
    char name[24];
    shard_name(name, number);
    return xasprintf("%s/.%s" SHARD_KEPT, r->folder, name);
}

static int put_in_place(const struct shard_remover *r, int number, struct error *e)
{
    char name[24];
    shard_name(name, number);
    char *file = path_join(r->folder, name), *lock = xasprintf("%s-lock", file);
    char *kept = kept_file(r, number);
    int status = 0;
    if (rename(kept, file) == 0)
        unlink(lock); /* it tells readers about the old file */
    else if (errno != ENOENT)
        status = error_errno(e, "cannot rename '%s'", kept);
    free(kept);
    free(lock);
    free(file);
    return status;
}

/* Gives the shards that the journal lists their names, and removes it. */
static int complete(const struct shard_remover *r, const char *journal, struct error *e)
{
    uint8_t *text;
    size_t size;
    if (file_read(&text, &size, journal, JOURNAL_LIMIT, e) != 0)
        return error_prefix(e, "cannot read '%s'", SHARD_REMOVAL);
    embed_caches_remove(r->folder); /* what is removed should be in no file */
    int status = 0;
    for (char *at = (char *)text, *end; status == 0 && *at; at = end) {
        long number = strtol(at, &end, 10);
        if (end == at || *end++ != '\n' || number < 0 || number >= SHARDS_MAX)
            status = error_set(e, "invalid '%s'", SHARD_REMOVAL);
        else
            status = put_in_place(r, (int)number, e);
    }
    free(text);
    fsync(r->fd); /* some file systems cannot, which only matters if the power fails */
    if (status == 0 && unlink(journal) != 0)
        status = error_errno(e, "cannot remove '%s'", SHARD_REMOVAL);
    return status;
}

static int complete_interrupted(struct shard_remover *r, bool *completed, struct error *e)
{
    *completed = shard_folder_removing(r->folder);
    if (!*completed)
        return 0;
    char *journal = path_join(r->folder, SHARD_REMOVAL);
    int status = complete(r, journal, e);
    free(journal);
    return status;
}

static int open_shards(struct shard_remover *r, struct error *e)
{
    int count;
    char *foreign = NULL;
    int status = shard_folder_list(r->folder, &count, &foreign, e);
    free(foreign);
    if (status != 0)
        return -1;
    if (count == 0)
        return error_set(e, "no shards in the folder");
    r->shards = xcalloc((size_t)count, sizeof *r->shards);
    for (int i = 0; i < count; i++) {
        if (shard_in_use(r->folder, i))
            return error_set(e, "another program is reading it");
        if (shard_open(&r->shards[i], r->folder, i, SHARD_CHECK, e) != 0)
            return -1;
        r->records += r->shards[i].count;
        r->count++;
    }
    return 0;
}

int shard_remover_open(struct shard_remover **out, const char *folder, bool *completed,
                       struct error *e)
{
    struct shard_remover *r = xcalloc(1, sizeof *r);
    r->folder = xstrdup(folder);
    int status = shard_folder_lock(&r->fd, folder, e);
    if (status == 0 && shard_folder_joining(folder))
        status = error_set(e, SHARD_JOIN_INTERRUPTED);
    if (status == 0)
        status = complete_interrupted(r, completed, e);
    if (status == 0)
        status = open_shards(r, e);
    if (status == 0)
        shard_folder_clean(folder);
    if (status == 0)
        *out = r;
    else
        shard_remover_close(r);
    return status;
}

static void close_shards(struct shard_remover *r)
{
    for (int i = 0; i < r->count; i++)
        shard_close(&r->shards[i]);
    r->count = 0;
}

void shard_remover_close(struct shard_remover *r)
{
    if (!r)
        return;
    close_shards(r);
    if (r->fd >= 0)
        close(r->fd);
    free(r->shards);
    free(r->folder);
    free(r);
}

int64_t shard_remover_count(const struct shard_remover *r)
{
    return r->records;
}

int shard_remover_find(struct shard_remover *r, const char *path, int64_t *index, struct error *e)
{
    uint8_t key[PATH_KEY_SIZE];
    struct shard_path_value found;
    path_key(key, path);
    int number = shard_find_path(r->shards, r->count, &r->last_hit, key, &found, e);
    if (number == -2)
        return -1;
    *index = number < 0 ? -1 : found.index;
    for (int i = 0; i < number; i++)
        *index += r->shards[i].count;
    return 0;
}

int shard_remover_inspect(struct shard_remover *r, int64_t index, char **path, struct error *reason,
                          struct error *e)
{
    int number = 0;
    while (index >= r->shards[number].count)
        index -= r->shards[number++].count;
    struct shard *s = &r->shards[number];
    uint8_t bytes[8];
    shard_put_be64(bytes, (uint64_t)index);
    MDB_val key = {.mv_size = sizeof bytes, .mv_data = bytes}, value;
    MDB_txn *txn;
    int code = shard_txn_begin(s, false, &txn);
    if (code != 0)
        return shard_error(e, s, "cannot read", code);
    struct shard_record record;
    shard_record_init(&record);
    reason->text[0] = 0;
    *path = NULL;
    code = mdb_get(txn, s->samples, &key, &value);
    if (code == 0) {
        if (shard_value_read(&record, &value, &s->info, reason) == 0)
            shard_record_check_values(&record, &s->info, reason);
        *path = record.path ? xstrdup(record.path) : NULL;
    } else {
        shard_error(reason, s, "cannot read", code);
    }
    shard_record_release(&record);
    mdb_txn_abort(txn);
    return 0;
}

/* One shard being written again. */
struct rewriting {
    struct shard *from, to;
    MDB_txn *reading, *writing;
    const bool *remove; /* by index in `from` */
    int64_t *indices;   /* new ones, -1: removed; by index in `from` */
    struct shard_record record;
    struct latent_statistics statistics;
};

/* Commits what has been written if that is much, or in any case. Returns LMDB's code. */
static int commit(struct rewriting *w, int64_t n, bool last)
{
    if (!last && n % BATCH != 0)
        return 0;
    int code = mdb_txn_commit(w->writing);
    w->writing = NULL;
    if (code == 0 && !last)
        code = mdb_txn_begin(w->to.env, NULL, 0, &w->writing);
    return code;
}

static int copy_samples(struct rewriting *w)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct error unreadable;
    int64_t old = 0, kept = 0;
    int code = mdb_cursor_open(w->reading, w->from->samples, &cursor);
    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        bool good = old < w->from->count;
        if (good && w->remove[old]) {
            w->indices[old++] = -1;
            continue;
        }
        uint8_t bytes[8];
        shard_put_be64(bytes, (uint64_t)kept);
        MDB_val index = {.mv_size = sizeof bytes, .mv_data = bytes};
        if (!good || (code = mdb_put(w->writing, w->to.samples, &index, &value, MDB_APPEND)) != 0)
            break;
        if (shard_value_read(&w->record, &value, &w->from->info, &unreadable) == 0)
            latent_statistics_add(&w->statistics, &w->from->info, w->record.moments, 1);
        w->indices[old++] = kept++;
        if ((code = commit(w, kept, false)) != 0)
            break;
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code == 0 ? MDB_CORRUPTED : code;
}

static int copy_paths(struct rewriting *w)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int64_t copied = 0;
    int code = mdb_cursor_open(w->reading, w->from->paths, &cursor);
    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        struct shard_path_value entry;
        uint8_t bytes[SHARD_PATH_VALUE_MOST];
        /* An entry that names no record, which verify reports, is not kept. */
        if (!shard_path_value_parse(&entry, &value) || entry.index < 0 ||
            entry.index >= w->from->count || w->indices[entry.index] < 0)
            continue;
        entry.index = w->indices[entry.index];
        MDB_val packed = {.mv_size = shard_path_value_pack(bytes, &entry), .mv_data = bytes};
        if ((code = mdb_put(w->writing, w->to.paths, &key, &packed, MDB_APPEND)) != 0 ||
            (code = commit(w, ++copied, false)) != 0)
            break;
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

static int copy(struct rewriting *w)
{
    int code = shard_txn_begin(w->from, false, &w->reading);
    if (code == 0)
        code = mdb_txn_begin(w->to.env, NULL, 0, &w->writing);
    if (code == 0)
        code = copy_samples(w);
    if (code == 0)
        code = copy_paths(w);
    if (code == 0)
        code = shard_put_meta(&w->to, w->writing, &w->statistics, w->from->finished);
    if (code == 0)
        code = commit(w, 0, true);
    if (code == 0)
        code = mdb_env_sync(w->to.env, 1);
    if (w->writing)
        mdb_txn_abort(w->writing);
    if (w->reading)
        mdb_txn_abort(w->reading);
    return code;
}

static int rewrite(const struct shard_remover *r, int number, const bool *remove, struct error *e)
{
    struct shard *from = &r->shards[number];
    struct rewriting w = {
        .from = from, .remove = remove, .to = {.version = from->version, .info = from->info}};
    MDB_envinfo info;
    char *file = kept_file(r, number);
    w.indices = xcalloc((size_t)from->count + 1, sizeof *w.indices);
    shard_record_init(&w.record);
    int code = mdb_env_info(from->env, &info);
    if (code == 0)
        code = shard_create_env(&w.to, file, MDB_NOSYNC, 2 * info.me_mapsize + MAP_LEAST);
    if (code == 0) {
        code = copy(&w);
        mdb_env_close(w.to.env);
    }
    shard_record_release(&w.record);
    free(w.indices);
    if (code != 0)
        unlink(file);
    free(file);
    return code != 0 ? shard_error(e, from, "cannot write what is kept", code) : 0;
}

static int write_journal(const struct shard_remover *r, const bool *changed, struct error *e)
{
    char *text, *file = path_join(r->folder, SHARD_REMOVAL);
    size_t size;
    FILE *memory = xallocated(open_memstream(&text, &size));
    for (int i = 0; i < r->count; i++)
        if (changed[i])
            fprintf(memory, "%d\n", i);
    if (fclose(memory) != 0)
        die("out of memory");
    int status = file_write(file, text, size, e);
    free(text);
    free(file);
    return status;
}

static void remove_kept(const struct shard_remover *r, const bool *changed)
{
    for (int i = 0; i < r->count; i++) {
        char *file = kept_file(r, i);
        if (changed[i])
            unlink(file);
        free(file);
    }
}

int shard_remover_run(struct shard_remover *r, const bool *remove, struct error *e)
{
    bool *changed = xcalloc((size_t)r->count, sizeof *changed), completed;
    int64_t first = 0;
    int status = 0;
    for (int i = 0; status == 0 && i < r->count; first += r->shards[i++].count) {
        changed[i] = memchr(remove + first, true, (size_t)r->shards[i].count);
        if (changed[i])
            status = rewrite(r, i, remove + first, e);
    }
    for (int i = 0; status == 0 && i < r->count; i++)
        if (shard_in_use(r->folder, i))
            status = error_set(e, "another program has begun to read it");
    if (status == 0)
        status = write_journal(r, changed, e);
    if (status != 0)
        remove_kept(r, changed);
    close_shards(r);
    free(changed);
    return status == 0 ? complete_interrupted(r, &completed, e) : status;
}
