#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

#define SHARD_FORMAT   "ccld-shards"
#define SHARD_DATABASE 3
/* Two meta pages: what the smallest LMDB file has, and what opening one touches. */
#define SMALLEST_FILE 8192
#define SHARDS_MAX    100000 /* five digits */

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

void shard_path_value_pack(uint8_t out[SHARD_PATH_VALUE_SIZE], const struct shard_path_value *v)
{
    shard_put_be64(out, (uint64_t)v->size);
    shard_put_be64(out + 8, (uint64_t)v->mtime_ns);
    shard_put_be64(out + 16, (uint64_t)v->index);
}

bool shard_path_value_parse(struct shard_path_value *v, const MDB_val *value)
{
    if (value->mv_size != SHARD_PATH_VALUE_SIZE)
        return false;
    const uint8_t *bytes = value->mv_data;
    v->size = (int64_t)shard_get_be64(bytes);
    v->mtime_ns = (int64_t)shard_get_be64(bytes + 8);
    v->index = (int64_t)shard_get_be64(bytes + 16);
    return v->index >= 0;
}

void shard_name(char name[24], int number)
{
    snprintf(name, 24, "%05d.mdb", number);
}

/* The number in "00012.mdb" plus suffix, or -1. */
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

int shard_folder_list(const char *folder, int *shards, char **foreign, struct error *e)
{
    *shards = 0;
    *foreign = NULL;
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot open the folder");
    int last = -1;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(d)); errno = 0) {
        int number = parse_name(entry->d_name, "");
        if (number >= 0) {
            (*shards)++;
            last = number > last ? number : last;
        } else if (entry->d_name[0] != '.' && parse_name(entry->d_name, "-lock") < 0 && !*foreign) {
            *foreign = xstrdup(entry->d_name);
        }
    }
    int failed = errno;
    closedir(d);
    if (failed) {
        errno = failed;
        return error_errno(e, "cannot read the folder");
    }
    for (int i = 0; i <= last; i++) {
        char name[24];
        shard_name(name, i);
        char *file = path_join(folder, name);
        bool there = file_exists(file);
        free(file);
        if (!there)
            return error_set(e, "shard '%s' is missing: there is one with number %d", name, last);
    }
    return 0;
}

/* LMDB calls a write that the full disk cut short an input/output error. */
static bool disk_is_full(const struct shard *s)
{
    struct statvfs st;
    return s->file && statvfs(s->file, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize < 1 << 20;
}

int shard_error(struct error *e, const struct shard *s, const char *what, int rc)
{
    rc = rc == EIO && disk_is_full(s) ? ENOSPC : rc;
    const char *why = rc == MDB_INVALID            ? "not an LMDB file"
                      : rc == MDB_CORRUPTED        ? "damaged LMDB file"
                      : rc == MDB_VERSION_MISMATCH ? "LMDB file of another version"
                                                   : mdb_strerror(rc);
    return error_set(e, "%s: %s: %s", s->name, what, why);
}

int shard_txn_begin(struct shard *s, bool write, MDB_txn **txn)
{
    int rc = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, txn);
    if (rc == MDB_MAP_RESIZED) {
        rc = mdb_env_set_mapsize(s->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(s->env, NULL, write ? 0 : MDB_RDONLY, txn);
    }
    return rc;
}

int shard_grow_map(struct shard *s, struct error *e)
{
    MDB_envinfo info;
    int rc = mdb_env_info(s->env, &info);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, 2 * info.me_mapsize);
    return rc ? shard_error(e, s, "cannot grow the map", rc) : 0;
}

static void add_model(cJSON *root, const char *key, const struct shard_model *m)
{
    cJSON *object = cJSON_AddObjectToObject(root, key);
    cJSON_AddStringToObject(object, "name", m->name);
    cJSON_AddStringToObject(object, "hash", m->hash);
}

static char *meta_text(const struct shard_info *i, const struct latent_statistics *s, bool finished)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "format", SHARD_FORMAT);
    cJSON_AddNumberToObject(root, "version", SHARD_VERSION);
    int latent_shape[] = {i->latent_channels, i->latent_height, i->latent_width};
    cJSON_AddItemToObject(root, "latent_shape", cJSON_CreateIntArray(latent_shape, 3));
    cJSON_AddNumberToObject(root, "embed_size", i->embed_size);
    cJSON_AddStringToObject(root, "embed_dtype", dtype_name(i->embed_dtype));
    int image_size[] = {i->image_height, i->image_width};
    cJSON_AddItemToObject(root, "image_size", cJSON_CreateIntArray(image_size, 2));
    cJSON_AddStringToObject(root, "preprocessing", i->preprocessing);
    add_model(root, "autoencoder", &i->autoencoder);
    add_model(root, "cloob", &i->cloob);
    cJSON *statistics = cJSON_AddObjectToObject(root, "statistics");
    cJSON_AddNumberToObject(statistics, "count", s->count);
    cJSON_AddNumberToObject(statistics, "mean", s->mean);
    cJSON_AddNumberToObject(statistics, "mean_square", s->mean_square);
    cJSON_AddBoolToObject(root, "finished", finished);
    char *text = cJSON_PrintUnformatted(root);
    CHECK(text);
    cJSON_Delete(root);
    return text;
}

int shard_put_meta(struct shard *s, MDB_txn *txn, const struct latent_statistics *statistics,
                   bool finished)
{
    char *text = meta_text(&s->info, statistics, finished);
    MDB_val key = {.mv_size = 5, .mv_data = "store"};
    MDB_val value = {.mv_size = strlen(text), .mv_data = text};
    int rc = mdb_put(txn, s->meta, &key, &value, 0);
    cJSON_free(text);
    return rc;
}

static bool get_string(char *out, size_t size, const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool get_number(double *out, const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    *out = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    return isfinite(*out);
}

static bool is_size(const cJSON *item)
{
    return cJSON_IsNumber(item) && item->valuedouble == item->valueint && item->valueint > 0 &&
           item->valueint <= 65536;
}

static bool get_sizes(int **out, int n, const cJSON *root, const char *key)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != n)
        return false;
    for (int i = 0; i < n; i++) {
        const cJSON *item = cJSON_GetArrayItem(array, i);
        if (!is_size(item))
            return false;
        *out[i] = item->valueint;
    }
    return true;
}

static bool get_model(struct shard_model *m, const cJSON *root, const char *key)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(root, key);
    return get_string(m->name, sizeof m->name, object, "name") &&
           get_string(m->hash, sizeof m->hash, object, "hash");
}

/* The first key whose value is missing or makes no sense; NULL when all is well. */
static const char *parse_meta(struct shard *s, const cJSON *root)
{
    struct shard_info *i = &s->info;
    const cJSON *embed_size = cJSON_GetObjectItemCaseSensitive(root, "embed_size");
    char dtype[8];
    if (!get_sizes((int *[]){&i->latent_channels, &i->latent_height, &i->latent_width}, 3, root,
                   "latent_shape") ||
        shard_latent_count(i) > (size_t)1 << 30)
        return "latent_shape";
    if (!is_size(embed_size))
        return "embed_size";
    i->embed_size = embed_size->valueint;
    if (!get_string(dtype, sizeof dtype, root, "embed_dtype") ||
        !dtype_parse(&i->embed_dtype, dtype) ||
        (i->embed_dtype != DTYPE_F32 && i->embed_dtype != DTYPE_F16))
        return "embed_dtype";
    if (!get_sizes((int *[]){&i->image_height, &i->image_width}, 2, root, "image_size"))
        return "image_size";
    if (!get_string(i->preprocessing, sizeof i->preprocessing, root, "preprocessing"))
        return "preprocessing";
    if (!get_model(&i->autoencoder, root, "autoencoder"))
        return "autoencoder";
    if (!get_model(&i->cloob, root, "cloob"))
        return "cloob";
    const cJSON *statistics = cJSON_GetObjectItemCaseSensitive(root, "statistics");
    if (!get_number(&s->statistics.count, statistics, "count") || s->statistics.count < 0 ||
        !get_number(&s->statistics.mean, statistics, "mean") ||
        !get_number(&s->statistics.mean_square, statistics, "mean_square"))
        return "statistics";
    const cJSON *finished = cJSON_GetObjectItemCaseSensitive(root, "finished");
    if (!cJSON_IsBool(finished))
        return "finished";
    s->finished = cJSON_IsTrue(finished);
    return NULL;
}

static int read_meta(struct shard *s, const MDB_val *value, struct error *e)
{
    cJSON *root = cJSON_ParseWithLength(value->mv_data, value->mv_size);
    char format[32];
    double version;
    if (!get_string(format, sizeof format, root, "format") || strcmp(format, SHARD_FORMAT) != 0 ||
        !get_number(&version, root, "version")) {
        cJSON_Delete(root);
        return error_set(e, "%s: not a shard: its meta record is not one", s->name);
    }
    int rc = 0;
    if (version != SHARD_VERSION) {
        rc = error_set(e, "%s: shard format version %g, this program knows %d", s->name, version,
                       SHARD_VERSION);
    } else {
        const char *fault = parse_meta(s, root);
        if (fault)
            rc = error_set(e, "%s: bad '%s' in its meta record", s->name, fault);
    }
    cJSON_Delete(root);
    return rc;
}

int shard_read_state(struct shard *s, MDB_txn *txn, struct error *e)
{
    MDB_val key = {.mv_size = 5, .mv_data = "store"}, value;
    MDB_stat stat;
    int rc = mdb_get(txn, s->meta, &key, &value);
    if (rc == MDB_NOTFOUND)
        return error_set(e, "%s: not a shard: it has no meta record", s->name);
    if (rc || (rc = mdb_stat(txn, s->samples, &stat)))
        return shard_error(e, s, "cannot read", rc);
    s->count = (int64_t)stat.ms_entries;
    return read_meta(s, &value, e);
}

/* Opens databases and reads meta in one transaction: handles live as long as the environment. */
static int open_databases(struct shard *s, struct error *e)
{
    MDB_txn *txn;
    int rc = shard_txn_begin(s, false, &txn);
    if (rc)
        return shard_error(e, s, "cannot read", rc);
    if ((rc = mdb_dbi_open(txn, "samples", 0, &s->samples)) ||
        (rc = mdb_dbi_open(txn, "paths", 0, &s->paths)) ||
        (rc = mdb_dbi_open(txn, "meta", 0, &s->meta))) {
        mdb_txn_abort(txn);
        return rc == MDB_NOTFOUND
                   ? error_set(e, "%s: an LMDB file, but not a shard: it lacks databases", s->name)
                   : shard_error(e, s, "cannot read", rc);
    }
    if (shard_read_state(s, txn, e)) {
        mdb_txn_abort(txn);
        return -1;
    }
    rc = mdb_txn_commit(txn); /* keeps the database handles */
    return rc ? shard_error(e, s, "cannot read", rc) : 0;
}

/* A file cut short would end the program with SIGBUS where the map reads behind its end. */
static int check_file_size(const struct shard *s, struct error *e)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    int fd, rc;
    if ((rc = mdb_env_info(s->env, &info)) || (rc = mdb_env_stat(s->env, &stat)) ||
        (rc = mdb_env_get_fd(s->env, &fd)) || (rc = fstat(fd, &st) ? errno : 0))
        return shard_error(e, s, "cannot read", rc);
    uint64_t used = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    if ((uint64_t)st.st_size < used) {
        return error_set(e, "%s: truncated: %lld bytes where %llu are in use", s->name,
                         (long long)st.st_size, (unsigned long long)used);
    }
    return 0;
}

static int open_env(MDB_env **env, const char *file, unsigned flags)
{
    *env = NULL;
    int rc = mdb_env_create(env);
    if (rc)
        return rc;
    if ((rc = mdb_env_set_maxdbs(*env, SHARD_DATABASE)) ||
        (rc = mdb_env_open(*env, file, flags | MDB_NOSUBDIR | MDB_NOTLS, 0666))) {
        mdb_env_close(*env);
        *env = NULL;
    }
    return rc;
}

/* Each open shard takes three descriptors, so that a big store may pass the usual soft limit. */
static bool raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static int open_shard_env(struct shard *s, bool write)
{
    unsigned flags = write ? 0 : MDB_RDONLY;
    int rc = open_env(&s->env, s->file, flags);
    if ((rc == EMFILE) && raise_file_limit())
        rc = open_env(&s->env, s->file, flags);
    if ((rc == EACCES || rc == EROFS) && !write && access(s->file, R_OK) == 0)
        rc = open_env(&s->env, s->file, flags | MDB_NOLOCK); /* a store of somebody else's */
    return rc;
}

int shard_open(struct shard *s, const char *folder, int number, bool write, struct error *e)
{
    *s = (struct shard){0};
    shard_name(s->name, number);
    s->file = path_join(folder, s->name);
    struct stat st;
    int rc;
    if (stat(s->file, &st)) {
        rc = shard_error(e, s, "cannot open", errno);
    } else if (!S_ISREG(st.st_mode)) {
        rc = error_set(e, "%s: not a regular file", s->name);
    } else if (st.st_size < SMALLEST_FILE) {
        rc = error_set(e, "%s: not an LMDB file (%lld bytes)", s->name, (long long)st.st_size);
    } else if ((rc = open_shard_env(s, write))) {
        rc = shard_error(e, s, "cannot open", rc);
    } else if ((rc = check_file_size(s, e)) == 0) {
        int dead;
        if (write && (rc = mdb_reader_check(s->env, &dead)))
            rc = shard_error(e, s, "cannot clear its reader table", rc);
        else
            rc = open_databases(s, e);
    }
    if (rc)
        shard_close(s);
    return rc;
}

void shard_close(struct shard *s)
{
    if (s->env)
        mdb_env_close(s->env);
    free(s->file);
    s->env = NULL;
    s->file = NULL;
}

static int fill_new_env(struct shard *s, size_t map_size)
{
    int rc = mdb_env_set_mapsize(s->env, map_size);
    MDB_txn *txn;
    if (rc || (rc = mdb_txn_begin(s->env, NULL, 0, &txn)))
        return rc;
    if ((rc = mdb_dbi_open(txn, "samples", MDB_CREATE, &s->samples)) ||
        (rc = mdb_dbi_open(txn, "paths", MDB_CREATE, &s->paths)) ||
        (rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &s->meta)) ||
        (rc = shard_put_meta(s, txn, &(struct latent_statistics){0}, false))) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int shard_create(const char *folder, int number, const struct shard_info *info, size_t map_size,
                 struct error *e)
{
    if (number >= SHARDS_MAX)
        return error_set(e, "more than %d shards", SHARDS_MAX);
    struct shard s = {.info = *info};
    shard_name(s.name, number);
    char *name = xasprintf(".%s.new", s.name), *temporary = path_join(folder, name);
    s.file = path_join(folder, s.name);
    unlink(temporary); /* what a killed writer left */
    int rc = open_env(&s.env, temporary, MDB_NOLOCK);
    if (rc == EMFILE && raise_file_limit())
        rc = open_env(&s.env, temporary, MDB_NOLOCK);
    if (rc == 0) {
        rc = fill_new_env(&s, map_size);
        mdb_env_close(s.env);
    }
    int folder_fd = -1;
    if (rc == 0 &&
        (rename(temporary, s.file) ||
         (folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 || fsync(folder_fd)))
        rc = errno;
    if (folder_fd >= 0)
        close(folder_fd);
    if (rc) {
        shard_error(e, &s, "cannot create", rc);
        unlink(temporary);
    }
    free(s.file);
    free(temporary);
    free(name);
    return rc ? -1 : 0;
}
