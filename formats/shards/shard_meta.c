/* The meta record of a shard: JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

#define SHARD_FORMAT "ccld-shards"

static void add_model(cJSON *root, const char *key, const struct shard_model *m)
{
    cJSON *object = cJSON_AddObjectToObject(root, key);
    cJSON_AddStringToObject(object, "name", m->name);
    cJSON_AddStringToObject(object, "hash", m->hash);
    if (*m->encoder)
        cJSON_AddStringToObject(object, "encoder", m->encoder);
}

static char *meta_text(const struct shard *shard, const struct latent_statistics *s, bool finished)
{
    const struct shard_info *i = &shard->info;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "format", SHARD_FORMAT);
    cJSON_AddNumberToObject(root, "version", shard->version);
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
    char *text = meta_text(s, statistics, finished);
    MDB_val key = {.mv_size = 5, .mv_data = "store"};
    MDB_val value = {.mv_size = strlen(text), .mv_data = text};
    int code = mdb_put(txn, s->meta, &key, &value, 0);
    cJSON_free(text);
    return code;
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
    if (!get_string(m->encoder, sizeof m->encoder, object, "encoder"))
        *m->encoder = '\0';
    return get_string(m->name, sizeof m->name, object, "name") &&
           get_string(m->hash, sizeof m->hash, object, "hash");
}

/* The first key whose value is missing or invalid; NULL if there is none. */
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

int shard_meta_parse(struct shard *s, const MDB_val *value, struct error *e)
{
    cJSON *root = cJSON_ParseWithLength(value->mv_data, value->mv_size);
    char format[32];
    double version;
    if (!get_string(format, sizeof format, root, "format") || strcmp(format, SHARD_FORMAT) != 0 ||
        !get_number(&version, root, "version")) {
        cJSON_Delete(root);
        return error_set(e, "%s: not a shard: invalid meta record", s->name);
    }
    int status = 0;
    s->version = version == 1 ? 1 : SHARD_VERSION;
    if (version != s->version) {
        status = error_set(e, "%s: shard format version %g; this program supports versions 1 to %d",
                           s->name, version, SHARD_VERSION);
    } else {
        const char *fault = parse_meta(s, root);
        if (fault)
            status = error_set(e, "%s: invalid '%s' in its meta record", s->name, fault);
    }
    cJSON_Delete(root);
    return status;
}

int shard_read_state(struct shard *s, MDB_txn *txn, struct error *e)
{
    MDB_val key = {.mv_size = 5, .mv_data = "store"}, value;
    MDB_stat stat;
    int code = mdb_get(txn, s->meta, &key, &value);
    if (code == MDB_NOTFOUND)
        return error_set(e, "%s: not a shard: no meta record", s->name);
    if (code != 0 || (code = mdb_stat(txn, s->samples, &stat)) != 0)
        return shard_error(e, s, "cannot read", code);
    s->count = (int64_t)stat.ms_entries;
    return shard_meta_parse(s, &value, e);
}
