#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/run/checkpoint_internal.h"
#include "common/run/json.h"

#define FORMAT         "ccld-training"
#define FORMAT_VERSION 1

/* The table below drives both writing and reading. */
enum field_kind {
    FIELD_INTEGER, /* int64_t, not negative */
    FIELD_INT,     /* int, not negative */
    FIELD_NUMBER,  /* double; null if it is not finite */
    FIELD_SEED,    /* uint64_t; a string, since a JSON number cannot hold it exactly */
    FIELD_TEXT,    /* char[] */
};

struct field {
    const char *object, *key; /* object: the top-level object that holds the key; NULL: the root */
    enum field_kind kind;
    size_t offset, size;
};

#define FIELD(object, key, kind, member)                                                           \
    {                                                                                              \
        object, key, kind, offsetof(struct training_state, member),                                \
            sizeof((struct training_state *)0)->member                                             \
    }
static const struct field fields[] = {
    FIELD(NULL, "version", FIELD_TEXT, version),
    FIELD(NULL, "step", FIELD_INTEGER, step),
    FIELD(NULL, "updates", FIELD_INTEGER, updates),
    FIELD(NULL, "images", FIELD_INTEGER, images),
    FIELD(NULL, "epoch", FIELD_INTEGER, at.epoch),
    FIELD(NULL, "place", FIELD_INTEGER, at.place),
    FIELD(NULL, "seed", FIELD_SEED, seed),
    FIELD(NULL, "seconds", FIELD_NUMBER, seconds),
    FIELD(NULL, "bad_steps", FIELD_INTEGER, bad_steps),
    FIELD(NULL, "bad_steps_in_a_row", FIELD_INTEGER, bad_steps_in_a_row),
    FIELD(NULL, "learning_rate", FIELD_NUMBER, learning_rate),
    FIELD(NULL, "ema_decay", FIELD_NUMBER, ema_decay),
    FIELD(NULL, "loss", FIELD_NUMBER, loss),
    FIELD(NULL, "smoothed_loss", FIELD_NUMBER, smoothed_loss),
    FIELD(NULL, "gradient_norm", FIELD_NUMBER, gradient_norm),
    FIELD(NULL, "holdout_loss", FIELD_NUMBER, holdout_loss),
    FIELD(NULL, "autoencoder_scale", FIELD_NUMBER, autoencoder_scale),
    FIELD(NULL, "precision", FIELD_TEXT, precision),
    FIELD(NULL, "loss_scale", FIELD_NUMBER, loss_scale),
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
    FIELD("data", "autoencoder", FIELD_TEXT, store.autoencoder.name),
    FIELD("data", "autoencoder_hash", FIELD_TEXT, store.autoencoder.hash),
    FIELD("data", "cloob", FIELD_TEXT, store.cloob.name),
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

void training_state_release(struct training_state *s)
{
    for (int i = 0; i < s->option_count; i++) {
        free(s->options[i].name);
        free(s->options[i].value);
    }
    free(s->options);
    s->options = NULL;
    s->option_count = 0;
}

void training_state_set_option(struct training_state *s, const char *name, const char *value)
{
    for (int i = 0; i < s->option_count; i++) {
        if (strcmp(s->options[i].name, name) == 0) {
            char *copy = xstrdup(value); /* value may be the old one */
            free(s->options[i].value);
            s->options[i].value = copy;
            return;
        }
    }
    s->options = xrealloc(s->options, (size_t)(s->option_count + 1) * sizeof *s->options);
    s->options[s->option_count++] = (struct training_option){xstrdup(name), xstrdup(value)};
}

const char *training_state_option(const struct training_state *s, const char *name)
{
    for (int i = 0; i < s->option_count; i++)
        if (strcmp(s->options[i].name, name) == 0)
            return s->options[i].value;
    return NULL;
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
        return cJSON_CreateNumber(*(const double *)at);
    case FIELD_SEED:
        snprintf(digits, sizeof digits, "%" PRIu64, *(const uint64_t *)at);
        return cJSON_CreateString(digits);
    case FIELD_TEXT:
        break;
    }
    return json_string(at);
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
    cJSON *options = cJSON_AddObjectToObject(root, "options");
    for (int i = 0; i < s->option_count; i++) {
        const char *value = s->options[i].value;
        cJSON_AddItemToObject(options, s->options[i].name,
                              is_plain_number(value) ? cJSON_CreateRaw(value) : json_string(value));
    }
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
    *text = cJSON_Print(root);
    CHECK(*text);
    cJSON_Delete(root);
}

static bool take_integer(int64_t *out, const cJSON *value, double max)
{
    if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0 && value->valuedouble <= max) ||
        value->valuedouble != floor(value->valuedouble))
        return false;
    *out = (int64_t)value->valuedouble;
    return true;
}

static bool take_text(char *out, size_t size, const cJSON *value)
{
    if (!cJSON_IsString(value) || strlen(value->valuestring) >= size)
        return false;
    strcpy(out, value->valuestring);
    return true;
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

#define INTEGER_MAX 9007199254740992.0 /* 2^53: JSON numbers are exact up to here */

static bool take_field(struct training_state *s, const struct field *f, const cJSON *value)
{
    void *at = (char *)s + f->offset;
    int64_t integer;
    switch (f->kind) {
    case FIELD_INTEGER:
        return take_integer(at, value, INTEGER_MAX);
    case FIELD_INT:
        if (!take_integer(&integer, value, 2147483647.0))
            return false;
        *(int *)at = (int)integer;
        return true;
    case FIELD_NUMBER:
        *(double *)at = cJSON_IsNumber(value) ? value->valuedouble : NAN;
        return cJSON_IsNumber(value) || cJSON_IsNull(value);
    case FIELD_SEED:
        return take_seed(at, value);
    case FIELD_TEXT:
        break;
    }
    return take_text(at, f->size, value);
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
    if (!cJSON_IsString(dtype) || !dtype_parse(&s->store.embed_dtype, dtype->valuestring))
        return error_set(e, "\"embed_dtype\" is invalid");
    return 0;
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
                      INTEGER_MAX))
        return error_set(e, "\"discriminator\" is invalid");
    for (int i = 0; i < s->file_count; i++) {
        struct checkpoint_file *f = &s->files[i];
        const cJSON *file = cJSON_GetArrayItem(files, i);
        if (!take_text(f->name, sizeof f->name, cJSON_GetObjectItemCaseSensitive(file, "name")) ||
            !take_text(f->hash, sizeof f->hash, cJSON_GetObjectItemCaseSensitive(file, "hash")) ||
            !take_integer(&f->bytes, cJSON_GetObjectItemCaseSensitive(file, "bytes"),
                          INTEGER_MAX) ||
            strchr(f->name, '/'))
            return error_set(e, "\"files\" is invalid");
    }
    return 0;
}

int training_state_parse(struct training_state *s, const char *text, struct error *e)
{
    training_state_init(s);
    cJSON *root = cJSON_Parse(text);
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format"),
                *version = cJSON_GetObjectItemCaseSensitive(root, "format_version");
    int status = 0;
    if (!cJSON_IsObject(root))
        status = error_set(e, "not a JSON object");
    else if (!cJSON_IsString(format) || strcmp(format->valuestring, FORMAT) != 0)
        status = error_set(e, "not the state of a training run");
    else if (!cJSON_IsNumber(version) || version->valuedouble != FORMAT_VERSION)
        status = error_set(e, "unsupported format version");
    if (status != 0 || take_fields(s, root, e) != 0 || take_options(s, root, e) != 0 ||
        take_files(s, root, e) != 0) {
        training_state_release(s);
        status = -1;
    }
    cJSON_Delete(root);
    return status;
}
