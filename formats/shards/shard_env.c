#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/standard_streams.h"
#include "formats/shards/embed_cache.h"
#include "formats/shards/shard_internal.h"

void shard_put_be64(uint8_t out[8], uint64_t v)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (56 - 8 * i));
}

uint64_t shard_get_be64(const uint8_t in[8])
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | in[i];
    return v;
}

size_t shard_path_value_pack(uint8_t out[SHARD_PATH_VALUE_MOST], const struct shard_path_value *v)
{
    shard_put_be64(out, (uint64_t)v->size);
    shard_put_be64(out + 8, (uint64_t)v->mtime_ns);
    shard_put_be64(out + 16, (uint64_t)v->index);
    if (!v->hashed)
        return SHARD_PATH_VALUE_SIZE;
    memcpy(out + SHARD_PATH_VALUE_SIZE, v->hash, CONTENT_HASH_SIZE);
    return SHARD_PATH_VALUE_MOST;
}

bool shard_path_value_parse(struct shard_path_value *v, const MDB_val *value)
{
    if (value->mv_size != SHARD_PATH_VALUE_SIZE && value->mv_size != SHARD_PATH_VALUE_MOST)
        return false;
    const uint8_t *bytes = value->mv_data;
    v->hashed = value->mv_size == SHARD_PATH_VALUE_MOST;
    if (v->hashed)
        memcpy(v->hash, bytes + SHARD_PATH_VALUE_SIZE, CONTENT_HASH_SIZE);
    v->size = (int64_t)shard_get_be64(bytes);
    v->mtime_ns = (int64_t)shard_get_be64(bytes + 8);
    v->index = (int64_t)shard_get_be64(bytes + 16);
    return v->index >= 0;
}

void shard_name(char name[24], int number)
{
    snprintf(name, 24, "%05d.mdb", number);
}

/* The number in "00012.mdb" followed by suffix, or -1. */
static int parse_name(const char *entry, const char *suffix)
{
    char expected[64];
    int number = 0;
    for (int i = 0; i < 5; i++) {
        if (entry[i] < '0' || entry[i] > '9')
            return -1;
        number = 10 * number + entry[i] - '0';
    }
    snprintf(expected, sizeof expected, "%05d.mdb%s", number, suffix);
    return strcmp(entry, expected) == 0 ? number : -1;
}

bool shard_raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Sets *lowest and *highest to the numbers of the first and last shard, or to SHARDS_MAX and -1. */
static int scan_folder(const char *folder, int *count, int *lowest, int *highest, char **foreign,
                       struct error *e)
{
    *count = 0;
    *lowest = SHARDS_MAX;
    *highest = -1;
    *foreign = NULL;
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot open the folder");
    errno = 0;
    for (struct dirent *entry; (entry = readdir(d)); errno = 0) {
        int number = parse_name(entry->d_name, "");
        if (number >= 0) {
            (*count)++;
            *lowest = number < *lowest ? number : *lowest;
            *highest = number > *highest ? number : *highest;
        } else if (entry->d_name[0] != '.' && parse_name(entry->d_name, "-lock") < 0 &&
                   strcmp(entry->d_name, SHARD_PARTS) != 0 && !*foreign &&
                   !standard_streams_fill(dirfd(d), entry->d_name)) {
            *foreign = xstrdup(entry->d_name);
        }
    }
    int number = errno;
    closedir(d);
    if (number != 0) {
        errno = number;
        return error_errno(e, "cannot read the folder");
    }
    return 0;
}

static int check_gaps(const char *folder, int first, int last, struct error *e)
{
    for (int i = first; i <= last; i++) {
        char name[24];
        shard_name(name, i);
        char *file = path_join(folder, name);
        bool there = file_exists(file);
        free(file);
        if (!there)
            return error_set(e, "shard '%s' is missing, but shard %d exists", name, last);
    }
    return 0;
}

int shard_folder_list(const char *folder, int *shards, char **foreign, struct error *e)
{
    int lowest, highest;
    return scan_folder(folder, shards, &lowest, &highest, foreign, e) != 0
               ? -1
               : check_gaps(folder, 0, highest, e);
}

int shard_folder_range(const char *folder, int *first, int *end, struct error *e)
{
    int count, highest;
    char *foreign;
    int status = scan_folder(folder, &count, first, &highest, &foreign, e);
    free(foreign);
    if (status == 0)
        status = check_gaps(folder, *first, highest, e);
    *first = count == 0 ? 0 : *first;
    *end = highest + 1;
    return status;
}

int shard_folder_lock(int *fd, const char *folder, struct error *e)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    *fd = open(folder, flags);
    if (*fd < 0 && errno == EMFILE && shard_raise_file_limit())
        *fd = open(folder, flags);
    if (*fd < 0)
        return error_errno(e, "cannot open the folder");
    if (folder_lock(*fd) != 0) {
        return errno == EWOULDBLOCK ? error_set(e, "another program is writing to it")
                                    : error_errno(e, "cannot lock the folder");
    }
    return 0;
}

/* Whether the name is one that a program gives to a file until it is complete. */
static bool is_temporary(const char *name)
{
    static const char removal[] = SHARD_REMOVAL ".";
    if (name[0] != '.')
        return false;
    return parse_name(name + 1, SHARD_KEPT) >= 0 || parse_name(name + 1, SHARD_NEW) >= 0 ||
           strcmp(name, SHARD_JOURNAL_NEW) == 0 || strcmp(name, SHARD_JOURNAL_PROBE) == 0 ||
           (strncmp(name, removal, sizeof removal - 1) == 0 &&
            strlen(name) == sizeof removal - 1 + ATOMIC_FILE_SUFFIX);
}

void shard_folder_clean(const char *folder)
{
    embed_cache_clean(folder);
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));)
        if (is_temporary(entry->d_name))
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

void shard_folder_remove_locks(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));) {
        int number = parse_name(entry->d_name, "-lock");
        if (number < 0)
            continue;
        char name[24];
        shard_name(name, number);
        char *file = path_join(folder, name), *lock = path_join(folder, entry->d_name);
        if (!file_exists(file))
            unlink(lock);
        free(file);
        free(lock);
    }
    closedir(d);
}

/* Every user of an environment holds a shared lock on the first byte of LMDB's lock file. A writer
 * in the new place would not see a reader that registered in the old one. */
bool shard_in_use(const char *folder, int number)
{
    char name[24];
    shard_name(name, number);
    char *path = path_join(folder, name), *lock = xasprintf("%s-lock", path);
    int fd = open(lock, O_RDONLY | O_CLOEXEC);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    bool used = fd >= 0 && fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    free(lock);
    free(path);
    return used;
}

static bool folder_has(const char *folder, const char *name)
{
    char *file = path_join(folder, name);
    bool there = file_exists(file);
    free(file);
    return there;
}

bool shard_folder_removing(const char *folder)
{
    return folder_has(folder, SHARD_REMOVAL);
}

bool shard_folder_joining(const char *folder)
{
    return folder_has(folder, SHARD_JOURNAL);
}

/* LMDB reports a write cut short by a full disk or by `ulimit -f` as an input/output error. */
static int cause_of_io_error(const struct shard *s)
{
    struct statvfs disk;
    struct stat st;
    struct rlimit limit;
    if (s->file && statvfs(s->file, &disk) == 0 &&
        (uint64_t)disk.f_bavail * disk.f_frsize < 1 << 20)
        return ENOSPC;
    if (s->file && stat(s->file, &st) == 0 && getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY && (rlim_t)st.st_size + (1 << 20) > limit.rlim_cur)
        return EFBIG;
    return EIO;
}

int shard_error(struct error *e, const struct shard *s, const char *what, int code)
{
    code = code == EIO ? cause_of_io_error(s) : code;
    const char *why = code == MDB_INVALID            ? "not an LMDB file"
                      : code == MDB_CORRUPTED        ? "damaged LMDB file"
                      : code == MDB_VERSION_MISMATCH ? "LMDB file of an unsupported version"
                                                     : mdb_strerror(code);
    return error_set(e, "%s: %s: %s", s->name, what, why);
}

int shard_txn_begin(struct shard *s, bool write, MDB_txn **txn)
{
    int code = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, txn);
    if (code == MDB_MAP_RESIZED) {
        code = mdb_env_set_mapsize(s->env, 0);
        if (code == 0)
            code = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, txn);
    }
    return code;
}

int shard_find_path(struct shard *shards, int count, int *last_hit,
                    const uint8_t path[PATH_KEY_SIZE], struct shard_path_value *found,
                    struct error *e)
{
    MDB_val key = {.mv_size = PATH_KEY_SIZE, .mv_data = (void *)path}, value;
    for (int i = 0; i < count; i++) {
        int number = (*last_hit + i) % count;
        struct shard *s = &shards[number];
        MDB_txn *txn;
        int code = shard_txn_begin(s, false, &txn);
        if (code == 0) {
            code = mdb_get(txn, s->paths, &key, &value);
            bool good =
                code != 0 || (shard_path_value_parse(found, &value) && found->index < s->count);
            mdb_txn_abort(txn);
            if (!good) {
                error_set(e, "%s: damaged entry in its paths", s->name);
                return -2;
            }
        }
        if (code == 0) {
            *last_hit = number;
            return number;
        }
        if (code != MDB_NOTFOUND) {
            shard_error(e, s, "cannot look up a path", code);
            return -2;
        }
    }
    return -1;
}

int shard_grow_map(struct shard *s, struct error *e)
{
    MDB_envinfo info;
    int code = mdb_env_info(s->env, &info);
    if (code == 0)
        code = mdb_env_set_mapsize(s->env, 2 * info.me_mapsize);
    return code != 0 ? shard_error(e, s, "cannot grow the map", code) : 0;
}
