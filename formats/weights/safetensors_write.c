#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/weights/safetensors.h"

#define DATA_ALIGNMENT 64

struct text {
    char *bytes;
    size_t size, capacity;
};

struct safetensors_writer {
    bool to_memory, header_written;
    struct atomic_file file;
    struct text out;      /* the header; with to_memory the data too */
    struct text metadata; /* JSON members, comma-separated */
    struct text tensors;
    char **names;
    size_t count, capacity;
    uint64_t declared, appended; /* bytes of data */
};

static void text_reserve(struct text *t, size_t more)
{
    CHECK(more < SIZE_MAX / 4 && t->size < SIZE_MAX / 4);
    if (t->capacity - t->size >= more)
        return;
    t->capacity = 2 * t->capacity > t->size + more ? 2 * t->capacity : t->size + more;
    t->bytes = xrealloc(t->bytes, t->capacity);
}

static void text_append(struct text *t, const void *bytes, size_t size)
{
    text_reserve(t, size);
    if (size > 0)
        memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

static void text_puts(struct text *t, const char *s)
{
    text_append(t, s, strlen(s));
}

static void text_json_string(struct text *t, const char *s)
{
    text_puts(t, "\"");
    for (; *s; s++) {
        char escape[8];
        if (*s == '"' || *s == '\\')
            snprintf(escape, sizeof escape, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)*s);
        else
            snprintf(escape, sizeof escape, "%c", *s);
        text_puts(t, escape);
    }
    text_puts(t, "\"");
}

static void text_number(struct text *t, uint64_t n)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    text_puts(t, digits);
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
    if (atomic_file_open(&n->file, path, e)) {
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
    free(s->out.bytes);
    free(s->metadata.bytes);
    free(s->tensors.bytes);
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
    text_puts(&s->metadata, s->metadata.size ? "," : "");
    text_json_string(&s->metadata, key);
    text_puts(&s->metadata, ":");
    text_json_string(&s->metadata, value);
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
    struct text *t = &s->tensors;
    text_puts(t, t->size ? "," : "");
    text_json_string(t, name);
    text_puts(t, ":{\"dtype\":\"");
    text_puts(t, dtype_name(dtype));
    text_puts(t, "\",\"shape\":[");
    for (int i = 0; i < ndim; i++) {
        text_puts(t, i ? "," : "");
        text_number(t, (uint64_t)shape[i]);
    }
    text_puts(t, "],\"data_offsets\":[");
    text_number(t, s->declared);
    text_puts(t, ",");
    s->declared += (uint64_t)bytes;
    text_number(t, s->declared);
    text_puts(t, "]}");
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
            return error_set(e, "tensor name '%.100s' used twice", s->names[i]);
    return 0;
}

static int write_header(struct safetensors_writer *s, struct error *e)
{
    if (check_names(s, e))
        return -1;
    s->header_written = true;
    struct text *o = &s->out;
    text_append(o, "\0\0\0\0\0\0\0\0{", 9);
    if (s->metadata.size > 0) {
        text_puts(o, "\"__metadata__\":{");
        text_append(o, s->metadata.bytes, s->metadata.size);
        text_puts(o, s->tensors.size > 0 ? "}," : "}");
    }
    text_append(o, s->tensors.bytes, s->tensors.size);
    text_puts(o, "}");
    while (o->size % DATA_ALIGNMENT != 0)
        text_puts(o, " ");
    uint64_t header = o->size - 8;
    if (header > SAFETENSORS_HEADER_MAX)
        return error_set(e, "more names and metadata than a safetensors header may hold");
    memcpy(o->bytes, &header, 8);
    return s->to_memory ? 0 : write_all(s->file.fd, o->bytes, o->size, e);
}

int safetensors_append(struct safetensors_writer *s, const void *data, size_t size, struct error *e)
{
    if (!s->header_written && write_header(s, e))
        return -1;
    if (size > s->declared - s->appended)
        return error_set(e, "more data than tensors were declared");
    s->appended += size;
    if (!s->to_memory)
        return write_all(s->file.fd, data, size, e);
    text_append(&s->out, data, size);
    return 0;
}

static int finish(struct safetensors_writer *s, struct error *e)
{
    if (!s->header_written && write_header(s, e))
        return -1;
    if (s->appended != s->declared)
        return error_set(e, "less data than tensors were declared");
    return 0;
}

int safetensors_commit(struct safetensors_writer *s, struct error *e)
{
    CHECK(!s->to_memory);
    if (finish(s, e)) {
        safetensors_abandon(s);
        return -1;
    }
    int rc = atomic_file_commit(&s->file, e);
    release(s);
    return rc;
}

int safetensors_take(struct safetensors_writer *s, uint8_t **data, size_t *size, struct error *e)
{
    CHECK(s->to_memory);
    if (finish(s, e)) {
        release(s);
        return -1;
    }
    *data = (uint8_t *)s->out.bytes;
    *size = s->out.size;
    s->out.bytes = NULL;
    release(s);
    return 0;
}
