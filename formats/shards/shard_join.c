#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "formats/shards/embed_cache.h"
#include "formats/shards/shard_internal.h"

#define JOURNAL_FORMAT  "ccld-shards join"
#define JOURNAL_LARGEST ((size_t)64 << 20)

struct source {
    const char *folder;
    struct stat st;
    int fd;         /* holds a writer's lock; -1: not open */
    int first, end; /* numbers of its shards, [first, end); first > 0 after an interrupted join */
};

/* A join moves shards one by one, in order, to the next number in OUT. So at any moment OUT is a
 * store without gaps, each shard is in one place, and what remains to be done is what remains in
 * the other folders. The journal in OUT, written before the first move and removed after the last,
 * tells a repeated join that OUT is not an ordinary store. */
struct join {
    const char *out;
    struct source *sources;
    int n;
    int fd;        /* of OUT, holds a writer's lock; -1: not open, or OUT is the first source */
    bool in_place; /* OUT is the first source */
    bool resumed;
    bool created;  /* this call made the folder OUT */
    int expected;  /* shards that the journal promises */
    int have;      /* shards in OUT */
    int remaining; /* shards to move */
    int64_t records;
    struct shard_info info; /* of the first shard */
    const char *info_from;  /* the store it is in; NULL: no shard has been read */
    struct path_set paths;
};

static bool same_folder(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The sources to move shards from. */
static int first_moved(const struct join *j)
{
    return j->in_place ? 1 : 0;
}

static int identify(struct join *j, bool *out_exists, struct error *e)
{
    struct stat st;
    *out_exists = stat(j->out, &st) == 0;
    if (!*out_exists && errno != ENOENT)
        return error_errno(e, "cannot open the folder");
    for (int i = 0; i < j->n; i++) {
        struct source *s = &j->sources[i];
        if (stat(s->folder, &s->st) != 0)
            return error_errno(e, "cannot open store '%s'", s->folder);
        if (!S_ISDIR(s->st.st_mode))
            return error_set(e, "cannot open store '%s': not a folder", s->folder);
        for (int k = 0; k < i; k++) {
            if (same_folder(&s->st, &j->sources[k].st))
                return error_set(e, "'%s' and '%s' are the same store", j->sources[k].folder,
                                 s->folder);
        }
        if (*out_exists && same_folder(&s->st, &st)) {
            if (i > 0)
                return error_set(e, "only the first store can be joined in place, not '%s'",
                                 s->folder);
            j->in_place = true;
        }
    }
    return 0;
}

static int lock_all(struct join *j, bool out_exists, struct error *e)
{
    if (out_exists && !j->in_place && shard_folder_lock(&j->fd, j->out, e) != 0)
        return -1;
    for (int i = 0; i < j->n; i++)
        if (shard_folder_lock(&j->sources[i].fd, j->sources[i].folder, e) != 0)
            return error_prefix(e, "store '%s'", j->sources[i].folder);
    return 0;
}

static char *journal_text(const struct join *j)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "format", JOURNAL_FORMAT);
    cJSON_AddNumberToObject(root, "version", 1);
    cJSON_AddNumberToObject(root, "shards", j->have + j->remaining);
    cJSON *stores = cJSON_AddArrayToObject(root, "stores");
    for (int i = 0; i < j->n; i++) {
        char *path = realpath(j->sources[i].folder, NULL);
        cJSON_AddItemToArray(stores, cJSON_CreateString(path ? path : j->sources[i].folder));
        free(path);
    }
    char *text = cJSON_PrintUnformatted(root);
    CHECK(text);
    cJSON_Delete(root);
    return text;
}

static int check_journal(struct join *j, const cJSON *root, struct error *e)
{
    const char *format = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "format"));
    const cJSON *stores = cJSON_GetObjectItemCaseSensitive(root, "stores");
    const cJSON *shards = cJSON_GetObjectItemCaseSensitive(root, "shards");
    if (!format || strcmp(format, JOURNAL_FORMAT) != 0 || !cJSON_IsArray(stores) ||
        !cJSON_IsNumber(shards))
        return error_set(e, "invalid '%s'", SHARD_JOURNAL);
    j->expected = shards->valueint;
    bool same = cJSON_GetArraySize(stores) == j->n;
    for (int i = 0; same && i < j->n; i++) {
        const char *expected = cJSON_GetStringValue(cJSON_GetArrayItem(stores, i));
        char *path = realpath(j->sources[i].folder, NULL);
        same = expected && path && strcmp(path, expected) == 0;
        free(path);
    }
    if (same)
        return 0;
    char list[320] = "";
    const cJSON *store;
    cJSON_ArrayForEach(store, stores)
    {
        size_t used = strlen(list);
        if (cJSON_IsString(store))
            snprintf(list + used, sizeof list - used, " '%s'", store->valuestring);
    }
    return error_set(e, "complete its interrupted join first, with the stores%s", list);
}

static int read_journal(struct join *j, struct error *e)
{
    if (!shard_folder_joining(j->out))
        return 0;
    j->resumed = true;
    char *file = path_join(j->out, SHARD_JOURNAL);
    uint8_t *data;
    size_t size;
    int status = file_read(&data, &size, file, JOURNAL_LARGEST, e);
    free(file);
    if (status != 0)
        return error_prefix(e, "cannot read '%s'", SHARD_JOURNAL);
    cJSON *root = cJSON_ParseWithLength((const char *)data, size);
    status = check_journal(j, root, e);
    cJSON_Delete(root);
    free(data);
    return status;
}

/* Finds the shards of all folders. */
static int list_shards(struct join *j, bool out_exists, struct error *e)
{
    char *foreign = NULL;
    if (out_exists && shard_folder_list(j->out, &j->have, &foreign, e) != 0) {
        free(foreign);
        return -1;
    }
    bool empty = j->have == 0 && !foreign;
    free(foreign);
    const struct source *without = NULL;
    for (int i = first_moved(j); i < j->n; i++) {
        struct source *s = &j->sources[i];
        if (shard_folder_range(s->folder, &s->first, &s->end, e) != 0)
            return error_prefix(e, "store '%s'", s->folder);
        if (s->first > 0 && !j->resumed)
            return error_set(e, "store '%s': its first shard is missing", s->folder);
        if (shard_folder_joining(s->folder))
            return error_set(e, "store '%s': %s", s->folder, SHARD_JOIN_INTERRUPTED);
        if (shard_folder_removing(s->folder))
            return error_set(e, "store '%s': %s", s->folder, SHARD_REMOVAL_INTERRUPTED);
        j->remaining += s->end - s->first;
        if (s->end == s->first && !shard_folder_is_part(s->folder))
            without = s;
    }
    if (j->remaining == 0 && !without)
        without = &j->sources[first_moved(j) < j->n ? first_moved(j) : 0];
    if (j->have > SHARDS_MAX - j->remaining)
        return error_set(e, "more than %d shards", SHARDS_MAX);
    if (j->resumed) {
        return j->have + j->remaining < j->expected
                   ? error_set(e, "of %d shard%s to join, %d cannot be found", j->expected,
                               plural(j->expected), j->expected - j->have - j->remaining)
                   : 0;
    }
    if (j->have > 0 && j->remaining == 0)
        return 0; /* joined already */
    if (!empty && !j->in_place)
        return error_set(
            e, "the folder is not empty: name a new one, or make it the first store to join");
    if (without || (j->in_place && j->have == 0))
        return error_set(e, "store '%s': no shards in the folder",
                         without ? without->folder : j->out);
    return 0;
}

/* Returns LMDB's code. path is empty if the record is unreadable. */
static int get_path(struct shard *s, MDB_txn *txn, MDB_val *key, char path[200])
{
    MDB_val value, frame;
    struct shard_path_value found;
    path[0] = 0;
    int code = mdb_get(txn, s->paths, key, &value);
    if (code != 0 || !shard_path_value_parse(&found, &value))
        return code;
    uint8_t index[8];
    shard_put_be64(index, (uint64_t)found.index);
    MDB_val sample = {.mv_size = sizeof index, .mv_data = index};
    struct shard_record r;
    shard_record_init(&r);
    if (mdb_get(txn, s->samples, &sample, &frame) == 0)
        shard_value_read(&r, &frame, &s->info, NULL);
    if (r.path)
        snprintf(path, 200, "%s", r.path);
    shard_record_release(&r);
    return 0;
}

static bool shard_has(const char *folder, int number, MDB_val *key)
{
    struct shard s;
    MDB_txn *txn;
    char path[200];
    if (shard_open(&s, folder, number, SHARD_CHECK, NULL) != 0)
        return false;
    bool has = false;
    if (shard_txn_begin(&s, false, &txn) == 0) {
        has = get_path(&s, txn, key, path) == 0;
        mdb_txn_abort(txn);
    }
    shard_close(&s);
    return has;
}

/* The first store that has the path; the slow way, for a message. */
static const char *owner(const struct join *j, MDB_val *key)
{
    for (int number = 0; number < j->have; number++)
        if (shard_has(j->out, number, key))
            return j->out;
    for (int i = first_moved(j); i < j->n; i++) {
        const struct source *s = &j->sources[i];
        for (int number = s->first; number < s->end; number++)
            if (shard_has(s->folder, number, key))
                return s->folder;
    }
    return j->out;
}

/* Adds the shard's paths to those seen. On a duplicate, leaves its key in *duplicate and its path
 * in path, and returns 1. */
static int add_paths(struct join *j, struct shard *s, uint8_t duplicate[PATH_KEY_SIZE],
                     char path[200], struct error *e)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    int status = 0, code = shard_txn_begin(s, false, &txn);
    if (code != 0)
        return shard_error(e, s, "cannot read", code);
    code = mdb_cursor_open(txn, s->paths, &cursor);
    if (code == 0) {
        while (status == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            if (key.mv_size != PATH_KEY_SIZE) {
                status = error_set(e, "%s: damaged entry in its paths", s->name);
            } else if (!path_set_add(&j->paths, key.mv_data)) {
                memcpy(duplicate, key.mv_data, PATH_KEY_SIZE);
                code = get_path(s, txn, &key, path);
                status = code == 0 ? 1 : shard_error(e, s, "cannot read", code);
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return status != 0 || code == MDB_NOTFOUND ? status : shard_error(e, s, "cannot read", code);
}

static int check_open_shard(struct join *j, struct shard *s, const char *folder, bool last,
                            struct error *e)
{
    if (j->info_from && shard_info_check(&s->info, &j->info, e) != 0)
        return error_prefix(e, "store '%s' cannot be joined with '%s'", folder, j->info_from);
    if (!j->info_from) {
        j->info = s->info;
        j->info_from = folder;
    }
    if (last && !s->finished)
        return error_set(e, "store '%s' is not finished: rerun ccld-encode to complete it", folder);
    j->records += s->count;
    return 0;
}

/* Checks one shard and adds its paths to those seen. last: the store must be finished. */
static int check_shard(struct join *j, const char *folder, int number, bool last, struct error *e)
{
    struct shard s;
    char path[200];
    uint8_t duplicate[PATH_KEY_SIZE];
    if (shard_open(&s, folder, number, SHARD_CHECK, e) != 0)
        return error_prefix(e, "store '%s'", folder);
    int status = check_open_shard(j, &s, folder, last, e);
    if (status == 0) {
        status = add_paths(j, &s, duplicate, path, e);
        if (status < 0)
            error_prefix(e, "store '%s'", folder);
    }
    shard_close(&s);
    if (status <= 0)
        return status;
    MDB_val key = {.mv_size = PATH_KEY_SIZE, .mv_data = duplicate};
    return error_set(e, "stores '%s' and '%s' both have the path '%s'", owner(j, &key), folder,
                     path);
}

static int check_all(struct join *j, struct error *e)
{
    for (int i = first_moved(j); i < j->n; i++) {
        const struct source *s = &j->sources[i];
        for (int number = s->first; number < s->end; number++)
            if (shard_in_use(s->folder, number))
                return error_set(e, "store '%s': another program is reading it", s->folder);
    }
    /* The shards that an interrupted join moved need not end with the last one of their store. */
    for (int number = 0; number < j->have; number++) {
        bool last = !j->resumed && number == j->have - 1;
        if (check_shard(j, j->out, number, last, e) != 0)
            return -1;
    }
    for (int i = first_moved(j); i < j->n; i++) {
        const struct source *s = &j->sources[i];
        for (int number = s->first; number < s->end; number++)
            if (check_shard(j, s->folder, number, number == s->end - 1, e) != 0)
                return -1;
    }
    return 0;
}

/* Renames an empty file as the shards will be, the only sure test of whether it is possible. */
static int probe(const struct join *j, const struct source *s, struct error *e)
{
    char *from = path_join(s->folder, SHARD_JOURNAL_PROBE),
         *to = path_join(j->out, SHARD_JOURNAL_PROBE);
    int status = 0, fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = error_errno(e, "cannot move shards out of store '%s'", s->folder);
    } else if (rename(from, to) != 0) {
        status = errno == EXDEV
                     ? error_set(e,
                                 "store '%s' is on another file system: its shards can only be "
                                 "renamed, not copied",
                                 s->folder)
                     : error_errno(e, "cannot move shards out of store '%s'", s->folder);
        unlink(from);
    } else {
        unlink(to);
    }
    if (fd >= 0)
        close(fd);
    free(from);
    free(to);
    return status;
}

static int prepare_out(struct join *j, bool out_exists, struct error *e)
{
    if (!out_exists) {
        if (mkdir(j->out, 0777) != 0)
            return error_errno(e, "cannot create the folder");
        j->created = true;
        if (shard_folder_lock(&j->fd, j->out, e) != 0)
            return -1;
    }
    for (int i = first_moved(j); i < j->n; i++) {
        const struct source *s = &j->sources[i];
        if (s->first < s->end && probe(j, s, e) != 0)
            return -1;
    }
    return 0;
}

static int write_text(const char *file, const char *text, struct error *e)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(e, "%s", strerror(errno));
    int status = write_all(fd, text, strlen(text), e);
    if (status == 0 && fsync(fd) != 0)
        status = error_set(e, "%s", strerror(errno));
    close(fd);
    return status;
}

static int out_fd(const struct join *j)
{
    return j->in_place ? j->sources[0].fd : j->fd;
}

static int write_journal(const struct join *j, struct error *e)
{
    char *file = path_join(j->out, SHARD_JOURNAL),
         *temporary = path_join(j->out, SHARD_JOURNAL_NEW);
    char *text = journal_text(j);
    int status = write_text(temporary, text, e);
    if (status == 0 && rename(temporary, file) != 0)
        status = error_set(e, "%s", strerror(errno));
    if (status != 0) {
        unlink(temporary);
        error_prefix(e, "cannot write '%s'", SHARD_JOURNAL);
    }
    fsync(out_fd(j));
    cJSON_free(text);
    free(temporary);
    free(file);
    return status;
}

static int remove_journal(const struct join *j, struct error *e)
{
    char *file = path_join(j->out, SHARD_JOURNAL);
    int status = unlink(file) != 0 && errno != ENOENT
                     ? error_errno(e, "cannot remove '%s'", SHARD_JOURNAL)
                     : 0;
    free(file);
    return status;
}

/* Some file systems cannot fsync a folder, which only matters if the power fails. */
static void sync_folders(const struct join *j, const struct source *s)
{
    fsync(out_fd(j));
    fsync(s->fd);
}

static int move_shard(struct join *j, const struct source *s, int number, struct error *e)
{
    char old_name[24], new_name[24];
    shard_name(old_name, number);
    shard_name(new_name, j->have);
    char *from = path_join(s->folder, old_name), *to = path_join(j->out, new_name);
    int status = 0;
    if (file_exists(to)) /* rename would replace it */
        status = error_set(e, "'%s' exists", to);
    else if (rename(from, to) != 0)
        status = error_errno(e, "cannot rename '%s' to '%s'", from, to);
    if (status == 0) {
        j->have++;
        sync_folders(j, s);
    }
    free(from);
    free(to);
    return status;
}

static int move_all(struct join *j, struct error *e)
{
    bool moved = j->resumed;
    for (int i = first_moved(j); i < j->n; i++) {
        const struct source *s = &j->sources[i];
        for (int number = s->first; number < s->end; number++) {
            if (move_shard(j, s, number, e) == 0) {
                moved = true;
                continue;
            }
            if (!moved)
                remove_journal(j, NULL);
            return moved ? error_prefix(e, "the join is incomplete, repeat it") : -1;
        }
    }
    return 0;
}

static int join(struct join *j, struct error *e)
{
    bool out_exists;
    if (identify(j, &out_exists, e) != 0 || lock_all(j, out_exists, e) != 0 ||
        (out_exists && read_journal(j, e) != 0) || list_shards(j, out_exists, e) != 0 ||
        check_all(j, e) != 0)
        return -1;
    if (j->remaining > 0) {
        if (prepare_out(j, out_exists, e) != 0 || (!j->resumed && write_journal(j, e) != 0) ||
            move_all(j, e) != 0) {
            if (j->created)
                rmdir(j->out); /* fails if a shard has been moved */
            return -1;
        }
    }
    if (j->remaining > 0 || j->resumed)
        for (int i = first_moved(j); i < j->n; i++) {
            shard_folder_remove_locks(j->sources[i].folder);
            embed_caches_remove(j->sources[i].folder);
        }
    if (remove_journal(j, e) != 0)
        return -1;
    for (int i = first_moved(j); i < j->n; i++)
        shard_folder_clean(j->sources[i].folder);
    shard_folder_clean(j->out);
    return 0;
}

int shard_stores_join(const char *out, char *const *stores, int n,
                      struct shard_join_summary *summary, struct error *e)
{
    CHECK(n > 0);
    struct join j = {.out = out, .n = n, .fd = -1};
    j.sources = xcalloc((size_t)n, sizeof *j.sources);
    for (int i = 0; i < n; i++)
        j.sources[i] = (struct source){.folder = stores[i], .fd = -1};
    path_set_init(&j.paths);
    int status = join(&j, e);
    *summary =
        (struct shard_join_summary){.records = j.records, .shards = j.have, .moved = j.remaining};
    path_set_release(&j.paths);
    for (int i = 0; i < n; i++)
        if (j.sources[i].fd >= 0)
            close(j.sources[i].fd);
    if (j.fd >= 0)
        close(j.fd);
    free(j.sources);
    return status;
}
