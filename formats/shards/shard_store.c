#include "formats/shards/shard_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

struct shard_store {
    struct shard *shards;
    int count;
    int64_t *first; /* [count + 1]: the index in the store of each shard's record 0; the total */
    bool joining;   /* the store is not complete yet */
};

int shard_model_check(const char *what, const struct shard_model *a, const struct shard_model *b,
                      struct error *e)
{
    bool same_part = *a->encoder && strcmp(a->encoder, b->encoder) == 0;
    if (strcmp(a->hash, b->hash) != 0 && !same_part) {
        return error_set(e, "made with the %s '%.80s' (%.16s), not '%.80s' (%.16s)", what, a->name,
                         a->hash, b->name, b->hash);
    }
    return 0;
}

int shard_info_check(const struct shard_info *store, const struct shard_info *other,
                     struct error *e)
{
    if (shard_model_check("autoencoder", &store->autoencoder, &other->autoencoder, e) != 0 ||
        shard_model_check("CLOOB", &store->cloob, &other->cloob, e) != 0)
        return -1;
    if (store->image_height != other->image_height || store->image_width != other->image_width) {
        return error_set(e, "made with images of %dx%d, not %dx%d", store->image_height,
                         store->image_width, other->image_height, other->image_width);
    }
    if (strcmp(store->preprocessing, other->preprocessing) != 0) {
        return error_set(e, "made with '%s' preprocessing, not '%s'", store->preprocessing,
                         other->preprocessing);
    }
    if (store->latent_channels != other->latent_channels ||
        store->latent_height != other->latent_height ||
        store->latent_width != other->latent_width) {
        return error_set(e, "made with latents of %dx%dx%d, not %dx%dx%d", store->latent_channels,
                         store->latent_height, store->latent_width, other->latent_channels,
                         other->latent_height, other->latent_width);
    }
    if (store->embed_size != other->embed_size)
        return error_set(e, "made with embeddings of size %d, not %d", store->embed_size,
                         other->embed_size);
    if (store->embed_dtype != other->embed_dtype) {
        return error_set(e, "made with %s embeddings, not %s", dtype_name(store->embed_dtype),
                         dtype_name(other->embed_dtype));
    }
    return 0;
}

static int open_shards(struct shard_store *s, const char *folder, struct error *e)
{
    int shards;
    char *foreign;
    s->joining = shard_folder_joining(folder);
    if (shard_folder_list(folder, &shards, &foreign, e) != 0) {
        free(foreign);
        return -1;
    }
    if (s->joining)
        warn("store '%s' is incomplete: %s", folder, SHARD_JOIN_INTERRUPTED);
    if (shards == 0) {
        error_set(e, foreign ? "no shards in the folder, but '%s'" : "no shards in the folder",
                  foreign);
        free(foreign);
        return -1;
    }
    if (foreign) {
        warn("ignoring '%s/%s': not part of a shard store", folder, foreign);
        free(foreign);
    }
    s->shards = xcalloc((size_t)shards, sizeof *s->shards);
    s->first = xcalloc((size_t)shards + 1, sizeof *s->first);
    for (int i = 0; i < shards; i++) {
        struct shard *shard = &s->shards[i];
        if (shard_open(shard, folder, i, SHARD_READ, e) != 0)
            return -1;
        s->count++;
        s->first[i + 1] = s->first[i] + shard->count;
        if (i > 0 && shard_info_check(&shard->info, &s->shards[0].info, e) != 0)
            return error_prefix(e, "%s differs from %s", shard->name, s->shards[0].name);
    }
    return 0;
}

int shard_store_open(struct shard_store **out, const char *folder, struct error *e)
{
    struct shard_store *s = xcalloc(1, sizeof *s);
    if (open_shards(s, folder, e) != 0) {
        shard_store_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void shard_store_close(struct shard_store *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->count; i++)
        shard_close(&s->shards[i]);
    free(s->shards);
    free(s->first);
    free(s);
}

int64_t shard_store_count(const struct shard_store *s)
{
    return s->first[s->count];
}

const struct shard_info *shard_store_info(const struct shard_store *s)
{
    return &s->shards[0].info;
}

struct latent_statistics shard_store_statistics(const struct shard_store *s)
{
    struct latent_statistics all = {0};
    for (int i = 0; i < s->count; i++)
        latent_statistics_merge(&all, &s->shards[i].statistics);
    return all;
}

bool shard_store_finished(const struct shard_store *s)
{
    return s->shards[s->count - 1].finished && !s->joining;
}

int shard_store_shards(const struct shard_store *s)
{
    return s->count;
}

struct shard_summary shard_store_shard(const struct shard_store *s, int shard)
{
    const struct shard *x = &s->shards[shard];
    struct stat st = {0};
    MDB_envinfo env = {0};
    if (stat(x->file, &st) != 0)
        st = (struct stat){0};
    mdb_env_info(x->env, &env);
    return (struct shard_summary){
        .name = x->name,
        .version = x->version,
        .count = x->count,
        .bytes = (uint64_t)st.st_size,
        .finished = x->finished,
        .modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
        .transaction = env.me_last_txnid,
    };
}

int shard_store_locate(const struct shard_store *s, int64_t index, int64_t *index_in_shard)
{
    CHECK(index >= 0 && index < shard_store_count(s));
    int low = 0, high = s->count; /* first[low] <= index < first[high] */
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (s->first[middle] <= index)
            low = middle;
        else
            high = middle;
    }
    *index_in_shard = index - s->first[low];
    return low;
}

int shard_store_read(struct shard_store *s, int64_t index, struct shard_record *r, struct error *e)
{
    int64_t within;
    struct shard *shard = &s->shards[shard_store_locate(s, index, &within)];
    MDB_txn *txn;
    int code = shard_txn_begin(shard, false, &txn);
    if (code != 0)
        return shard_error(e, shard, "cannot read", code);
    uint8_t key_bytes[8];
    shard_put_be64(key_bytes, (uint64_t)within);
    MDB_val key = {.mv_size = sizeof key_bytes, .mv_data = key_bytes}, value;
    r->path = NULL;
    code = mdb_get(txn, shard->samples, &key, &value);
    int status =
        code == 0
            ? shard_value_read(r, &value, &shard->info, e)
            : error_set(e, "%s", code == MDB_NOTFOUND ? "no such record" : mdb_strerror(code));
    mdb_txn_abort(txn);
    if (status != 0)
        shard_record_error(e, shard, within, r->path);
    return status != 0 ? SHARD_RECORD_DAMAGED : 0;
}

/* One shard's entries; those of records that came after the store was opened are left out. */
static int each_path(struct shard *shard, MDB_txn *txn, int64_t first,
                     void (*each)(void *arg, const struct shard_path *path), void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct shard_path_value entry;
    int code = mdb_cursor_open(txn, shard->paths, &cursor);
    if (code != 0)
        return code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        if (key.mv_size == PATH_KEY_SIZE && shard_path_value_parse(&entry, &value) &&
            entry.index >= 0 && entry.index < shard->count)
            each(arg, &(struct shard_path){.key = key.mv_data,
                                           .index = first + entry.index,
                                           .hash = entry.hashed ? entry.hash : NULL});
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

int shard_store_each_path(struct shard_store *s,
                          void (*each)(void *arg, const struct shard_path *path), void *arg,
                          struct error *e)
{
    for (int i = 0; i < s->count; i++) {
        struct shard *shard = &s->shards[i];
        MDB_txn *txn;
        if (shard_begin_checked(shard, &txn, e) != 0)
            return -1;
        int code = each_path(shard, txn, s->first[i], each, arg);
        mdb_txn_abort(txn);
        if (code != 0)
            return shard_error(e, shard, "cannot read its paths", code);
    }
    return 0;
}
