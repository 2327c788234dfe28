#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "formats/text/utf8.h"
#include "formats/weights/safetensors.h"

/* F16 latents hardly compress; the frame is used for its checksum. */
#define ZSTD_LEVEL 3
/* The most that a header, which holds a path, can add to the tensors of a blob. */
#define HEADER_SLACK 200000

size_t shard_latent_count(const struct shard_info *i)
{
    return (size_t)i->latent_channels * (size_t)i->latent_height * (size_t)i->latent_width;
}

void latent_statistics_merge(struct latent_statistics *s, const struct latent_statistics *other)
{
    double count = s->count + other->count;
    if (!(count > 0)) {
        *s = (struct latent_statistics){0};
        return;
    }
    s->mean = (s->mean * s->count + other->mean * other->count) / count;
    s->mean_square = (s->mean_square * s->count + other->mean_square * other->count) / count;
    s->count = count;
}

void latent_statistics_add(struct latent_statistics *s, const struct shard_info *i,
                           const uint16_t *moments, int sign)
{
    size_t n = shard_latent_count(i);
    double sum = 0, sum_square = 0;
    for (size_t j = 0; j < n; j++) {
        double mean = f16_to_f32(moments[j]);
        double log_variance = fmin(fmax(f16_to_f32(moments[n + j]), -30.0), 20.0);
        sum += mean;
        sum_square += mean * mean + exp(log_variance);
    }
    struct latent_statistics record = {
        .count = sign * (double)n,
        .mean = sum / (double)n,
        .mean_square = sum_square / (double)n,
    };
    latent_statistics_merge(s, &record);
}

double latent_statistics_scale(const struct latent_statistics *s)
{
    return s->count > 0 ? sqrt(s->mean_square - s->mean * s->mean) : NAN;
}

static int check_embed_norm(double square, struct error *e)
{
    double norm = sqrt(square);
    if (!(fabs(norm - 1) <= 0.01))
        return error_set(e, "embedding norm is %g, not 1", norm);
    return 0;
}

int shard_item_check(const struct shard_item *item, const struct shard_info *i, struct error *e)
{
    size_t n = 2 * shard_latent_count(i);
    for (size_t j = 0; j < n; j++) {
        if (!isfinite(item->moments[j]))
            return error_set(e, "non-finite latents");
        if (!isfinite(f16_to_f32(f32_to_f16(item->moments[j]))))
            return error_set(e, "latents too large for F16 (%g)", (double)item->moments[j]);
    }
    double square = 0;
    for (int j = 0; j < i->embed_size; j++) {
        if (!isfinite(item->embed[j]))
            return error_set(e, "non-finite embedding");
        square += (double)item->embed[j] * item->embed[j];
    }
    return check_embed_norm(square, e);
}

static void declare_path(struct safetensors_writer *s, const char *path)
{
    char *text;
    bool valid = utf8_repair(&text, path);
    safetensors_metadata(s, "path", text);
    free(text);
    if (!valid) {
        size_t size = strlen(path);
        char *hex = xmalloc(2 * size + 1);
        for (size_t i = 0; i < size; i++) {
            static const char digits[] = "0123456789abcdef";
            hex[2 * i] = digits[(uint8_t)path[i] >> 4];
            hex[2 * i + 1] = digits[(uint8_t)path[i] & 15];
        }
        hex[2 * size] = 0;
        safetensors_metadata(s, "path_bytes", hex);
        free(hex);
    }
}

static void declare_size(struct safetensors_writer *s, const char *key, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    safetensors_metadata(s, key, text);
}

static int compress(uint8_t **frame, size_t *size, ZSTD_CCtx *zstd, const uint8_t *blob,
                    size_t blob_size, struct error *e)
{
    size_t bound = ZSTD_compressBound(blob_size);
    *frame = xmalloc(bound);
    size_t code = ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
    if (!ZSTD_isError(code))
        code = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    if (!ZSTD_isError(code))
        code = ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    if (!ZSTD_isError(code))
        code = ZSTD_compress2(zstd, *frame, bound, blob, blob_size);
    if (ZSTD_isError(code)) {
        free(*frame);
        *frame = NULL;
        return error_set(e, "cannot compress: %s", ZSTD_getErrorName(code));
    }
    *size = code;
    return 0;
}

static const int64_t thumbnail_shape[] = {3, SHARD_THUMBNAIL_SIDE, SHARD_THUMBNAIL_SIDE};

int shard_value_make(uint8_t **value, size_t *size, uint16_t *moments_f16, void *zstd,
                     const struct shard_item *item, const struct shard_info *i, struct error *e)
{
    size_t n = 2 * shard_latent_count(i), d = (size_t)i->embed_size;
    dtype_from_f32(DTYPE_F16, moments_f16, item->moments, n);
    void *embed = xmalloc(d * dtype_size(i->embed_dtype));
    dtype_from_f32(i->embed_dtype, embed, item->embed, d);

    struct safetensors_writer *s = safetensors_create_memory();
    declare_path(s, item->path);
    declare_size(s, "width", item->width);
    declare_size(s, "height", item->height);
    int64_t moments_shape[] = {2 * i->latent_channels, i->latent_height, i->latent_width};
    int64_t embed_shape[] = {i->embed_size};
    safetensors_declare(s, "moments", DTYPE_F16, 3, moments_shape);
    safetensors_declare(s, "embed", i->embed_dtype, 1, embed_shape);
    if (item->thumbnail)
        safetensors_declare(s, "thumbnail", DTYPE_U8, 3, thumbnail_shape);
    uint8_t *blob = NULL;
    size_t blob_size;
    int status = safetensors_append(s, moments_f16, n * sizeof *moments_f16, e);
    if (status == 0)
        status = safetensors_append(s, embed, d * dtype_size(i->embed_dtype), e);
    if (status == 0 && item->thumbnail)
        status = safetensors_append(s, item->thumbnail, SHARD_THUMBNAIL_BYTES, e);
    if (status == 0)
        status = safetensors_take(s, &blob, &blob_size, e);
    else
        safetensors_abandon(s);
    free(embed);
    if (status == 0) {
        status = compress(value, size, zstd, blob, blob_size, e);
        free(blob);
    }
    if (status == 0)
        shard_label_append(value, size, item->path);
    return status;
}

void shard_record_init(struct shard_record *r)
{
    *r = (struct shard_record){0};
    r->zstd = xallocated(ZSTD_createDCtx());
}

void shard_record_release(struct shard_record *r)
{
    free((void *)r->blob);
    free(r->path_buffer);
    ZSTD_freeDCtx(r->zstd);
    *r = (struct shard_record){0};
}

/* RFC 8878: bit 2 of the byte after the magic number is the checksum flag. */
static bool frame_has_checksum(const MDB_val *value)
{
    return value->mv_size > 4 && ((const uint8_t *)value->mv_data)[4] >> 2 & 1;
}

/* value: the frame, and whatever follows it. */
static int decompress(struct shard_record *r, const MDB_val *value, const struct shard_info *i,
                      struct error *e)
{
    unsigned long long size = ZSTD_getFrameContentSize(value->mv_data, value->mv_size);
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN)
        return error_set(e, "not a zstd frame with a content size");
    if (!frame_has_checksum(value))
        return error_set(e, "zstd frame without checksum");
    size_t limit = 4 * shard_latent_count(i) + (size_t)i->embed_size * dtype_size(i->embed_dtype) +
                   HEADER_SLACK;
    if (size > limit)
        return error_set(e, "record of %llu bytes exceeds the expected maximum of %zu", size,
                         limit);
    if (size > r->blob_capacity) {
        r->blob = xrealloc((void *)r->blob, (size_t)size);
        r->blob_capacity = (size_t)size;
    }
    size_t code = ZSTD_findFrameCompressedSize(value->mv_data, value->mv_size);
    if (!ZSTD_isError(code))
        code =
            ZSTD_decompressDCtx(r->zstd, (void *)r->blob, r->blob_capacity, value->mv_data, code);
    if (ZSTD_isError(code))
        return error_set(e, "damaged zstd frame: %s", ZSTD_getErrorName(code));
    if (code != size)
        return error_set(e, "zstd frame holds %zu bytes, not the declared %llu", code, size);
    r->blob_size = code;
    return 0;
}

static int find_tensor(const void **data, const struct weights *w, const char *name,
                       enum dtype dtype, int ndim, const int64_t *shape, struct error *e)
{
    const struct weight *t = weights_find(w, name);
    if (!t)
        return error_set(e, "no tensor '%s'", name);
    bool fits = t->dtype == dtype && t->ndim == ndim;
    for (int i = 0; fits && i < ndim; i++)
        fits = t->shape[i] == shape[i];
    if (!fits)
        return error_set(e, "type or shape of '%s' does not match the store", name);
    if (!t->contiguous)
        return error_set(e, "'%s' is misaligned", name);
    *data = t->data;
    return 0;
}

static int parse_size(int *value, const struct weights *w, const char *key, struct error *e)
{
    const char *text = weights_metadata(w, key);
    char *end;
    long v = text ? strtol(text, &end, 10) : 0;
    if (!text || *end || v < 1 || v > INT32_MAX)
        return error_set(e, "metadata '%s' is %s", key, text ? "not a valid size" : "missing");
    *value = (int)v;
    return 0;
}

static int lower_hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_path(struct shard_record *r, const struct weights *w, struct error *e)
{
    const char *text = weights_metadata(w, "path"), *hex = weights_metadata(w, "path_bytes");
    if (!text || !*text)
        return error_set(e, "metadata 'path' is missing");
    r->path_buffer = xrealloc(r->path_buffer, strlen(hex ? hex : text) + 1);
    r->path = r->path_buffer;
    if (!hex) {
        strcpy(r->path_buffer, text);
        return 0;
    }
    size_t digits = strlen(hex), n = digits / 2;
    for (size_t i = 0; i < n; i++) {
        int high = lower_hex_digit(hex[2 * i]), low = lower_hex_digit(hex[2 * i + 1]);
        if (digits % 2 || high < 0 || low < 0 || high + low == 0)
            return error_set(e, "metadata 'path_bytes' is not hexadecimal");
        r->path_buffer[i] = (char)(high << 4 | low);
    }
    r->path_buffer[n] = 0;
    return 0;
}

static int parse_blob(struct shard_record *r, const struct weights *w, const struct shard_info *i,
                      struct error *e)
{
    if (strcmp(weights_format(w), "safetensors") != 0)
        return error_set(e, "not a safetensors blob");
    int64_t moments_shape[] = {2 * i->latent_channels, i->latent_height, i->latent_width};
    int64_t embed_shape[] = {i->embed_size};
    const void *moments, *embed, *thumbnail = NULL;
    if (find_tensor(&moments, w, "moments", DTYPE_F16, 3, moments_shape, e) != 0 ||
        find_tensor(&embed, w, "embed", i->embed_dtype, 1, embed_shape, e) != 0 ||
        (weights_find(w, "thumbnail") &&
         find_tensor(&thumbnail, w, "thumbnail", DTYPE_U8, 3, thumbnail_shape, e) != 0) ||
        parse_size(&r->width, w, "width", e) != 0 || parse_size(&r->height, w, "height", e) != 0 ||
        parse_path(r, w, e) != 0)
        return -1;
    r->moments = moments;
    r->embed = embed;
    r->thumbnail = thumbnail;
    return 0;
}

int shard_value_read(struct shard_record *r, const MDB_val *value, const struct shard_info *i,
                     struct error *e)
{
    struct weights *w;
    r->path = NULL;
    int status = decompress(r, value, i, e);
    if (status == 0)
        status = weights_open_memory(&w, r->blob, r->blob_size, e);
    if (status == 0) {
        status = parse_blob(r, w, i, e);
        weights_close(w);
    }
    if (status != 0 && shard_label_read(&r->path_buffer, value) == SHARD_LABEL_FOUND)
        r->path = r->path_buffer;
    return status;
}

int shard_record_error(struct error *e, const struct shard *s, int64_t index, const char *path)
{
    if (!path)
        return error_prefix(e, "%s, index %" PRId64, s->name, index);
    return error_prefix(e, "%s, index %" PRId64 " ('%.300s')", s->name, index, path);
}

int shard_record_check_values(const struct shard_record *r, const struct shard_info *i,
                              struct error *e)
{
    size_t n = 2 * shard_latent_count(i), d = (size_t)i->embed_size;
    for (size_t j = 0; j < n; j++)
        if (!isfinite(f16_to_f32(r->moments[j])))
            return error_set(e, "non-finite latents");
    double square = 0;
    for (size_t j = 0; j < d; j++) {
        float x;
        dtype_to_f32(&x, i->embed_dtype, (const uint8_t *)r->embed + j * dtype_size(i->embed_dtype),
                     1);
        if (!isfinite(x))
            return error_set(e, "non-finite embedding");
        square += (double)x * x;
    }
    return check_embed_norm(square, e);
}
