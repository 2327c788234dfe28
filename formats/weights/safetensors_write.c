#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/bytes.h"
#include "formats/weights/safetensors.h"

#define DATA_ALIGNMENT 64

struct safetensors_writer {
    bool to_memory, header_written;
    struct atomic_file file;
    struct bytes out;      /* the header; with to_memory, also the data */
    struct bytes metadata; /* JSON members, comma-separated */
    struct bytes tensors;
    char **names;
    size_t count, capacity;
    uint64_t declared, appended; /* bytes of data */
};

static void put_json_string(struct bytes *t, const char *s)
{
    bytes_put_text(t, "\"");
    for (; *s; s++) {
        char escape[8];
        if (*s == '"' || *s == '\\')
            snprintf(escape, sizeof escape, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)*s);
        else
            snprintf(escape, sizeof escape, "%c", *s);
        bytes_put_text(t, escape);
    }
    bytes_put_text(t, "\"");
}

static void put_decimal(struct bytes *t, uint64_t n)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, n);
    bytes_put_text(t, digits);
}

struct safetensors_writer *safetensors_create_memory(void)
{
    struct safetensors_writer *s = xcalloc(1, sizeof *s);
    s->to_memory = true;
    s->file.fd = -1;
    return s;
}

int safetensors_create(struct safetensors_writer **s, const char *path, struct error *e)
{
    struct safetensors_writer *n = safetensors_create_memory();
    n->to_memory = false;
    if (atomic_file_open(&n->file, path, e) != 0) {
        free(n);
        return -1;
    }
    *s = n;
    return 0;
}

static void release(struct safetensors_writer *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->names[i]);
    free(s->names);
    free(s->out.data);
    free(s->metadata.data);
    free(s->tensors.data);
    free(s);
}

void safetensors_abandon(struct safetensors_writer *s)
{
    if (!s)
        return;
    if (!s->to_memory)
        atomic_file_abandon(&s->file);
    release(s);
}

void safetensors_metadata(struct safetensors_writer *s, const char *key, const char *value)
{
    CHECK(!s->header_written);
    bytes_put_text(&s->metadata, s->metadata.size ? "," : "");
    put_json_string(&s->metadata, key);
    bytes_put_text(&s->metadata, ":");
    put_json_string(&s->metadata, value);
}

void safetensors_declare(struct safetensors_writer *s, const char *name, enum dtype dtype, int ndim,
                         const int64_t *shape)
{
    CHECK(!s->header_written);
    int64_t bytes = shape_bytes(ndim, shape, dtype);
    CHECK(bytes >= 0);
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 16;
        s->names = xrealloc(s->names, s->capacity * sizeof *s->names);
    }
    s->names[s->count++] = xstrdup(name);
    struct bytes *t = &s->tensors;
    bytes_put_text(t, t->size ? "," : "");
    put_json_string(t, name);
    bytes_put_text(t, ":{\"dtype\":\"");
    bytes_put_text(t, dtype_name(dtype));
    bytes_put_text(t, "\",\"shape\":[");
    for (int i = 0; i < ndim; i++) {
        bytes_put_text(t, i ? "," : "");
        put_decimal(t, (uint64_t)shape[i]);
    }
    bytes_put_text(t, "],\"data_offsets\":[");
    put_decimal(t, s->declared);
    bytes_put_text(t, ",");
    s->declared += (uint64_t)bytes;
    put_decimal(t, s->declared);
    bytes_put_text(t, "]}");
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_names(struct safetensors_writer *s, struct error *e)
{
    if (s->count > 0)
        qsort(s->names, s->count, sizeof *s->names, compare_strings);
    for (size_t i = 0; i < s->count; i++)
        if ((i > 0 && strcmp(s->names[i - 1], s->names[i]) == 0) ||
            strcmp(s->names[i], "__metadata__") == 0)
            return error_set(e, "duplicate tensor name '%.100s'", s->names[i]);
    return 0;
}

static int write_header(struct safetensors_writer *s, struct error *e)
{
    if (check_names(s, e) != 0)
        return -1;
    s->header_written = true;
    struct bytes *o = &s->out;
    bytes_put(o, "\0\0\0\0\0\0\0\0{", 9);
    if (s->metadata.size > 0) {
        bytes_put_text(o, "\"__metadata__\":{");
        bytes_put(o, s->metadata.data, s->metadata.size);
        bytes_put_text(o, s->tensors.size > 0 ? "}," : "}");
    }
    bytes_put(o, s->tensors.data, s->tensors.size);
    bytes_put_text(o, "}");
    while (o->size % DATA_ALIGNMENT != 0)
        bytes_put_text(o, " ");
    uint64_t header = o->size - 8;
    if (header > SAFETENSORS_HEADER_MAX)
        return error_set(e, "names and metadata exceed the size limit of a safetensors header");
    memcpy(o->data, &header, 8);
    return s->to_memory ? 0 : write_all(s->file.fd, o->data, o->size, e);
}

int safetensors_append(struct safetensors_writer *s, const void *data, size_t size, struct error *e)
{
    if (!s->header_written && write_header(s, e) != 0)
        return -1;
    if (size > s->declared - s->appended)
        return error_set(e, "more data than declared");
    s->appended += size;
    if (!s->to_memory)
        return write_all(s->file.fd, data, size, e);
    bytes_put(&s->out, data, size);
    return 0;
}

static int finish(struct safetensors_writer *s, struct error *e)
{
    if (!s->header_written && write_header(s, e) != 0)
        return -1;
    if (s->appended != s->declared)
        return error_set(e, "less data than declared");
    return 0;
}

int safetensors_commit(struct safetensors_writer *s, struct error *e)
{
    CHECK(!s->to_memory);
    if (finish(s, e) != 0) {
        safetensors_abandon(s);
        return -1;
    }
    int status = atomic_file_commit(&s->file, e);
    release(s);
    return status;
}

int safetensors_take(struct safetensors_writer *s, uint8_t **data, size_t *size, struct error *e)
{
    CHECK(s->to_memory);
    if (finish(s, e) != 0) {
        release(s);
        return -1;
    }
    *data = s->out.data;
    *size = s->out.size;
    s->out.data = NULL;
    release(s);
    return 0;
}
