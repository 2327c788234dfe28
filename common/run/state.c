#include <cjson/cJSON.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/text.h"
#include "common/run/checkpoint_internal.h"
#include "common/train/updater.h"
#include "formats/text/json.h"
#include "formats/text/utf8.h"

#define FORMAT         "ccld-training"
#define FORMAT_VERSION 1
#define HASH_KEY       "hash"

/* The table below drives both writing and reading. */
enum field_kind {
    FIELD_INTEGER, /* int64_t, not negative */
    FIELD_INT,     /* int, not negative */
    FIELD_NUMBER,  /* double; null if it is not finite */
    FIELD_SEED,    /* uint64_t; a string, since a JSON number cannot hold it exactly */
    FIELD_TEXT,    /* char[] */
    FIELD_NAME,    /* char[], for messages only: a longer one is cut */
};

struct field {
    const char *object, *key; /* object: the top-level object that holds the key; NULL: the root */
    enum field_kind kind;
    size_t offset, size;
    double min, max; /* of a number that is known */
};

#define RANGE(object, key, kind, member, min, max)                                                 \
    {                                                                                              \
        object, key, kind, offsetof(struct training_state, member),                                \
            sizeof((struct training_state *)0)->member, min, max                                   \
    }
#define EXACT_MAX 9007199254740992.0 /* 2^53: JSON numbers are exact up to here */
#define FIELD(object, key, kind, member)                                                           \
    RANGE(object, key, kind, member, 0, (kind) == FIELD_INT ? INT_MAX : EXACT_MAX)
#define NUMBER(key, member, min, max) RANGE(NULL, key, FIELD_NUMBER, member, min, max)
static const struct field fields[] = {
    FIELD(NULL, "version", FIELD_TEXT, version),
    FIELD(NULL, "step", FIELD_INTEGER, step),
    FIELD(NULL, "updates", FIELD_INTEGER, updates),
    FIELD(NULL, "images", FIELD_INTEGER, images),
    FIELD(NULL, "epoch", FIELD_INTEGER, at.epoch),
    FIELD(NULL, "place", FIELD_INTEGER, at.place),
    FIELD(NULL, "seed", FIELD_SEED, seed),
    NUMBER("seconds", seconds, 0, DBL_MAX),
    FIELD(NULL, "bad_steps", FIELD_INTEGER, bad_steps),
    FIELD(NULL, "bad_steps_in_a_row", FIELD_INTEGER, bad_steps_in_a_row),
    NUMBER("learning_rate", learning_rate, 0, DBL_MAX),
    NUMBER("ema_decay", ema_decay, 0, 1),
    NUMBER("loss", loss, -DBL_MAX, DBL_MAX),
    NUMBER("smoothed_loss", smoothed_loss, -DBL_MAX, DBL_MAX),
    NUMBER("gradient_norm", gradient_norm, 0, DBL_MAX),
    NUMBER("holdout_loss", holdout_loss, -DBL_MAX, DBL_MAX),
    NUMBER("autoencoder_scale", autoencoder_scale, DBL_MIN, DBL_MAX),
    FIELD(NULL, "precision", FIELD_TEXT, precision),
    NUMBER("loss_scale", loss_scale, 1, LOSS_SCALE_MOST),
    FIELD(NULL, "loss_scale_steps", FIELD_INTEGER, loss_scale_steps),
    FIELD("data", "hash", FIELD_TEXT, dataset_hash),
    FIELD("data", "records", FIELD_INTEGER, dataset_count),
    FIELD("data", "held_out", FIELD_INTEGER, holdout_count),
    FIELD("data", "latent_channels", FIELD_INT, store.latent_channels),
    FIELD("data", "latent_height", FIELD_INT, store.latent_height),
    FIELD("data", "latent_width", FIELD_INT, store.latent_width),
    FIELD("data", "embed_size", FIELD_INT, store.embed_size),
    FIELD("data", "image_height", FIELD_INT, store.image_height),
    FIELD("data", "image_width", FIELD_INT, store.image_width),
    FIELD("data", "preprocessing", FIELD_TEXT, store.preprocessing),
    FIELD("data", "autoencoder", FIELD_NAME, store.autoencoder.name),
    FIELD("data", "autoencoder_hash", FIELD_TEXT, store.autoencoder.hash),
    FIELD("data", "cloob", FIELD_NAME, store.cloob.name),
    FIELD("data", "cloob_hash", FIELD_TEXT, store.cloob.hash),
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

void training_state_init(struct training_state *s)
{
    *s = (struct training_state){
        .loss_scale = 1, .store.embed_dtype = DTYPE_F32, .file_count = CHECKPOINT_FILES};
    s->learning_rate = s->ema_decay = s->autoencoder_scale = NAN;
    s->loss = s->smoothed_loss = s->gradient_norm = s->holdout_loss = NAN;
}

/* Whether the text is a JSON number that prints as the same text. */
static bool is_plain_number(const char *text)
{
    size_t size = strlen(text);
    char again[32];
    const char *end;
    cJSON *number = size < 16 ? cJSON_ParseWithOpts(text, &end, true) : NULL;
    bool plain = cJSON_IsNumber(number);
    if (plain)
        snprintf(again, sizeof again, "%.15g", number->valuedouble);
    cJSON_Delete(number);
    return plain && strcmp(again, text) == 0;
}

/* cJSON prints 15 digits where they are off by a unit in the last place only, and a run that is
 * resumed would differ by that. */
static cJSON *exact_number(double number)
{
    if (!isfinite(number))
        return cJSON_CreateNumber(number);
    char *text = exact_text(number);
    cJSON *item = cJSON_CreateRaw(text);
    free(text);
    return item;
}

static cJSON *field_value(const struct training_state *s, const struct field *f)
{
    const void *at = (const char *)s + f->offset;
    char digits[24];
    switch (f->kind) {
    case FIELD_INTEGER:
        return cJSON_CreateNumber((double)*(const int64_t *)at);
    case FIELD_INT:
        return cJSON_CreateNumber(*(const int *)at);
    case FIELD_NUMBER:
        return exact_number(*(const double *)at);
    case FIELD_SEED:
        snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)at);
        return cJSON_CreateString(digits);
    case FIELD_TEXT:
    case FIELD_NAME:
        break;
    }
    return json_string(at);
}

/* The document's hash: of its values, however they are laid out. It is not in root yet. */
static void hash_document(char hex[CHECKPOINT_HASH_SIZE], const cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);
    CHECK(text);
    XXH128_hash_t hash = XXH3_128bits(text, strlen(text));
    cJSON_free(text);
    snprintf(hex, CHECKPOINT_HASH_SIZE, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

/* Hashes what a reader parses: printing may round a number's last digit. */
static void add_hash(cJSON *root)
{
    char hex[CHECKPOINT_HASH_SIZE], *text = cJSON_PrintUnformatted(root);
    CHECK(text);
    cJSON *parsed = cJSON_Parse(text);
    CHECK(parsed);
    hash_document(hex, parsed);
    cJSON_Delete(parsed);
    cJSON_free(text);
    cJSON_AddStringToObject(root, HASH_KEY, hex);
}

static void add_options(cJSON *root, const struct training_state *s)
{
    cJSON *options = cJSON_AddObjectToObject(root, "options");
    for (int i = 0; i < s->options.count; i++) {
        const char *value = s->options.items[i].value;
        cJSON_AddItemToObject(options, s->options.items[i].name,
                              is_plain_number(value) ? cJSON_CreateRaw(value) : json_string(value));
    }
}

static void add_files(cJSON *root, const struct training_state *s)
{
    cJSON *files = cJSON_AddArrayToObject(root, "files");
    for (int i = 0; i < s->file_count; i++) {
        cJSON *file = cJSON_CreateObject();
        cJSON_AddStringToObject(file, "name", s->files[i].name);
        cJSON_AddNumberToObject(file, "bytes", (double)s->files[i].bytes);
        cJSON_AddStringToObject(file, "hash", s->files[i].hash);
        cJSON_AddItemToArray(files, file);
    }
    if (s->file_count > CHECKPOINT_FILES) {
        cJSON *companion = cJSON_AddObjectToObject(root, "discriminator");
        cJSON_AddNumberToObject(companion, "updates", (double)s->companion_updates);
    }
}

void training_state_print(char **text, const struct training_state *s)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "format", FORMAT);
    cJSON_AddNumberToObject(root, "format_version", FORMAT_VERSION);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        cJSON *object = root;
        if (fields[i].object && !(object = cJSON_GetObjectItem(root, fields[i].object)))
            object = cJSON_AddObjectToObject(root, fields[i].object);
        cJSON_AddItemToObject(object, fields[i].key, field_value(s, &fields[i]));
    }
    cJSON_AddStringToObject(cJSON_GetObjectItem(root, "data"), "embed_dtype",
                            dtype_name(s->store.embed_dtype));
    add_options(root, s);
    add_files(root, s);
    add_hash(root);
    *text = cJSON_Print(root);
    CHECK(*text);
    cJSON_Delete(root);
}

/* Whether it is a number from min to max. */
static bool is_within(const cJSON *value, double min, double max)
{
    return cJSON_IsNumber(value) && value->valuedouble >= min && value->valuedouble <= max;
}

static bool take_integer(int64_t *out, const cJSON *value, double max)
{
    if (!is_within(value, 0, max) || value->valuedouble != floor(value->valuedouble))
        return false;
    *out = (int64_t)value->valuedouble;
    return true;
}

static bool take_text(char *out, size_t size, const cJSON *value)
{
    char *valid;
    if (!cJSON_IsString(value) || strlen(value->valuestring) >= size)
        return false;
    bool is_valid = utf8_repair(&valid, value->valuestring);
    free(valid);
    strcpy(out, value->valuestring);
    return is_valid;
}

static bool take_name(char *out, size_t size, const cJSON *value)
{
    if (cJSON_IsString(value))
        utf8_cut(out, size, value->valuestring);
    return cJSON_IsString(value);
}

static bool take_seed(uint64_t *out, const cJSON *value)
{
    char again[24];
    if (!cJSON_IsString(value))
        return false;
    *out = strtoull(value->valuestring, NULL, 10);
    snprintf(again, sizeof again, "%" PRIu64, *out);
    return strcmp(again, value->valuestring) == 0;
}

static bool take_field(struct training_state *s, const struct field *f, const cJSON *value)
{
    void *at = (char *)s + f->offset;
    int64_t integer;
    switch (f->kind) {
    case FIELD_INTEGER:
        return take_integer(at, value, f->max);
    case FIELD_INT:
        if (!take_integer(&integer, value, f->max))
            return false;
        *(int *)at = (int)integer;
        return true;
    case FIELD_NUMBER:
        *(double *)at = cJSON_IsNumber(value) ? value->valuedouble : NAN;
        return is_within(value, f->min, f->max) || cJSON_IsNull(value);
    case FIELD_SEED:
        return take_seed(at, value);
    case FIELD_NAME:
        return take_name(at, f->size, value);
    case FIELD_TEXT:
        break;
    }
    return take_text(at, f->size, value);
}

/* A damaged value may be within its own range and contradict others. */
static int check_together(const struct training_state *s, struct error *e)
{
    int64_t training = s->dataset_count - s->holdout_count;
    const struct {
        const char *key;
        int64_t value, max;
    } limits[] = {
        {"updates", s->updates, s->step},
        {"bad_steps", s->bad_steps, s->step},
        {"bad_steps_in_a_row", s->bad_steps_in_a_row, s->bad_steps},
        {"held_out", s->holdout_count, s->dataset_count},
        {"place", s->at.place, training},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value > limits[i].max)
            return error_set(e, "\"%s\" is invalid: %" PRId64 " is more than %" PRId64,
                             limits[i].key, limits[i].value, limits[i].max);
    if (!(s->loss_scale >= 1))
        return error_set(e, "\"loss_scale\" is invalid");
    if (!(s->seconds >= 0))
        return error_set(e, "\"seconds\" is invalid");
    return 0;
}

static int take_fields(struct training_state *s, const cJSON *root, struct error *e)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const cJSON *object =
            fields[i].object ? cJSON_GetObjectItemCaseSensitive(root, fields[i].object) : root;
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, fields[i].key);
        if (!value)
            return error_set(e, "\"%s\" is missing", fields[i].key);
        if (!take_field(s, &fields[i], value))
            return error_set(e, "\"%s\" is invalid", fields[i].key);
    }
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(root, "data"), "embed_dtype");
    if (!cJSON_IsString(dtype) || !dtype_parse(&s->store.embed_dtype, dtype->valuestring) ||
        (s->store.embed_dtype != DTYPE_F32 && s->store.embed_dtype != DTYPE_F16))
        return error_set(e, "\"embed_dtype\" is invalid");
    return check_together(s, e);
}

static int take_options(struct training_state *s, const cJSON *root, struct error *e)
{
    const cJSON *options = cJSON_GetObjectItemCaseSensitive(root, "options"), *option;
    if (!cJSON_IsObject(options))
        return error_set(e, "\"options\" is missing or not an object");
    cJSON_ArrayForEach(option, options)
    {
        char digits[32];
        if (cJSON_IsNumber(option))
            snprintf(digits, sizeof digits, "%.15g", option->valuedouble);
        else if (!cJSON_IsString(option))
            return error_set(e, "option \"%.100s\" is neither a string nor a number",
                             option->string);
        training_state_set_option(s, option->string,
                                  cJSON_IsNumber(option) ? digits : option->valuestring);
    }
    return 0;
}

static int take_files(struct training_state *s, const cJSON *root, struct error *e)
{
    const cJSON *files = cJSON_GetObjectItemCaseSensitive(root, "files");
    s->file_count = cJSON_GetArraySize(files);
    if (s->file_count != CHECKPOINT_FILES && s->file_count != CHECKPOINT_FILES_MAX)
        return error_set(e, "\"files\" does not list %d files", CHECKPOINT_FILES);
    const cJSON *companion = cJSON_GetObjectItemCaseSensitive(root, "discriminator");
    if (s->file_count == CHECKPOINT_FILES_MAX &&
        !take_integer(&s->companion_updates, cJSON_GetObjectItemCaseSensitive(companion, "updates"),
                      EXACT_MAX))
        return error_set(e, "\"discriminator\" is invalid");
    for (int i = 0; i < s->file_count; i++) {
        struct checkpoint_file *f = &s->files[i];
        const cJSON *file = cJSON_GetArrayItem(files, i);
        if (!take_text(f->name, sizeof f->name, cJSON_GetObjectItemCaseSensitive(file, "name")) ||
            !take_text(f->hash, sizeof f->hash, cJSON_GetObjectItemCaseSensitive(file, "hash")) ||
            !take_integer(&f->bytes, cJSON_GetObjectItemCaseSensitive(file, "bytes"), EXACT_MAX) ||
            strchr(f->name, '/'))
            return error_set(e, "\"files\" is invalid");
    }
    return 0;
}

/* Takes the hash out of root. Checkpoints of older programs have none. */
static int check_hash(cJSON *root, struct error *e)
{
    cJSON *stored = cJSON_DetachItemFromObjectCaseSensitive(root, HASH_KEY);
    if (!stored)
        return 0;
    char hex[CHECKPOINT_HASH_SIZE];
    hash_document(hex, root);
    bool same = cJSON_IsString(stored) && strcmp(stored->valuestring, hex) == 0;
    cJSON_Delete(stored);
    return same ? 0 : error_set(e, "damaged or modified: its \"" HASH_KEY "\" does not fit");
}

static int take_document(struct training_state *s, const cJSON *root, struct error *e)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format"),
                *version = cJSON_GetObjectItemCaseSensitive(root, "format_version");
    if (!cJSON_IsString(format) || strcmp(format->valuestring, FORMAT) != 0)
        return error_set(e, "not the state of a training run");
    if (!cJSON_IsNumber(version) || version->valuedouble != FORMAT_VERSION)
        return error_set(e, "unsupported format version");
    if (take_fields(s, root, e) != 0 || take_options(s, root, e) != 0)
        return -1;
    return take_files(s, root, e);
}

int training_state_parse(struct training_state *s, const char *text, struct error *e)
{
    training_state_init(s);
    cJSON *root = cJSON_ParseWithOpts(text, NULL, true);
    int status = 0;
    if (!cJSON_IsObject(root))
        status = error_set(e, "not a JSON object");
    /* A field that is invalid says more than a hash that does not fit. */
    else if ((status = take_document(s, root, e)) == 0)
        status = check_hash(root, e);
    if (status != 0)
        training_state_release(s);
    cJSON_Delete(root);
    return status;
}
