#include "formats/weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "formats/text/utf8.h"
#include "formats/weights/weights_readers.h"

/* The header is JSON of one known form. A parser for just that form is shorter than checking the
 * tree of a general one, and it does not allocate per value. */
struct scanner {
    struct weights *w;
    const uint8_t *at, *end;
    struct error *e;
};

#define NEST_MAX 16 /* in values of unknown keys */

static int bad(struct scanner *s, const char *what)
{
    return error_set(s->e, "bad safetensors header: %s", what);
}

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool take(struct scanner *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != (uint8_t)c)
        return false;
    s->at++;
    return true;
}

static int expect(struct scanner *s, char c)
{
    char what[] = "'?' expected";
    what[1] = c;
    return take(s, c) ? 0 : bad(s, what);
}

static int hex4(struct scanner *s, uint32_t *code)
{
    if (s->end - s->at < 4)
        return bad(s, "incomplete escape");
    *code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit((char)*s->at++);
        if (digit < 0)
            return bad(s, "bad escape");
        *code = *code << 4 | (uint32_t)digit;
    }
    return 0;
}

static int scan_escape(struct scanner *s, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end)
        return bad(s, "incomplete escape");
    char c = (char)*s->at++;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *(*out)++ = to[known - from];
        return 0;
    }
    uint32_t code, low;
    if (c != 'u')
        return bad(s, "bad escape");
    if (hex4(s, &code) != 0)
        return -1;
    if (code >= 0xd800 && code < 0xdc00) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
            return bad(s, "half a surrogate pair");
        s->at += 2;
        if (hex4(s, &low) != 0)
            return -1;
        if (low < 0xdc00 || low >= 0xe000)
            return bad(s, "half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
        return bad(s, "half a surrogate pair");
    }
    if (code == 0)
        return bad(s, "zero character in a string");
    *out = utf8_put(*out, code);
    return 0;
}

/* Copies to the arena. Unescaped text is never longer than its source. */
static int scan_string(struct scanner *s, const char **text)
{
    if (expect(s, '"') != 0)
        return -1;
    const uint8_t *close = s->at;
    while (close < s->end && *close != '"')
        close += *close == '\\' && s->end - close > 1 ? 2 : 1;
    if (close >= s->end)
        return bad(s, "unterminated string");
    char *out = arena_allocate(&s->w->arena, (size_t)(close - s->at) + 1);
    *text = out;
    while (s->at < close) {
        uint8_t c = *s->at++;
        if (c < 0x20)
            return bad(s, "control character in a string");
        if (c != '\\')
            *out++ = (char)c;
        else if (scan_escape(s, &out) != 0)
            return -1;
    }
    *out = 0;
    s->at = close + 1;
    return 0;
}

static int scan_size(struct scanner *s, int64_t *value)
{
    skip_space(s);
    const uint8_t *start = s->at;
    *value = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, *s->at - '0', value))
            return bad(s, "number out of range");
    if (s->at == start)
        return bad(s, "whole number expected");
    return 0;
}

static int scan_sizes(struct scanner *s, int64_t *values, int most, int *count)
{
    *count = 0;
    if (expect(s, '[') != 0)
        return -1;
    if (take(s, ']'))
        return 0;
    do {
        if (*count == most)
            return bad(s, "too many dimensions");
        if (scan_size(s, &values[(*count)++]) != 0)
            return -1;
    } while (take(s, ','));
    return expect(s, ']');
}

/* Skips the value of a key that newer writers may add. closers is the stack of open brackets. */
static int skip_value(struct scanner *s)
{
    char closers[NEST_MAX];
    int depth = 0;
    do {
        const char *ignored;
        skip_space(s);
        if (s->at == s->end)
            return bad(s, "incomplete value");
        char c = (char)*s->at;
        if (c == '"') {
            if (scan_string(s, &ignored) != 0)
                return -1;
        } else if (c == '{' || c == '[') {
            if (depth == NEST_MAX)
                return bad(s, "nested too deeply");
            closers[depth++] = c == '{' ? '}' : ']';
            s->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || closers[--depth] != c)
                return bad(s, "unmatched bracket");
            s->at++;
        } else if (strchr("+-.,:", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                   (c >= 'A' && c <= 'Z')) {
            if (depth == 0 && (c == ',' || c == ':'))
                return bad(s, "value expected");
            s->at++;
            while (depth == 0 && s->at < s->end && !strchr(",}] \t\r\n", *s->at))
                s->at++;
        } else {
            return bad(s, "value expected");
        }
    } while (depth > 0);
    return 0;
}

static int scan_metadata(struct scanner *s)
{
    if (expect(s, '{') != 0)
        return -1;
    if (take(s, '}'))
        return 0;
    do {
        const char *key, *value;
        if (scan_string(s, &key) != 0 || expect(s, ':') != 0 || scan_string(s, &value) != 0)
            return -1;
        weights_add_metadata(s->w, key, value);
    } while (take(s, ','));
    return expect(s, '}');
}

/* Data offsets, which are checked once all are known. */
struct span {
    int64_t begin, end;
};

static int scan_tensor(struct scanner *s, const char *name, struct span *span)
{
    struct weight *t = weights_add(s->w, name);
    bool has_dtype = false, has_shape = false, has_offsets = false, *seen;
    int64_t offsets[2];
    int count;
    if (expect(s, '{') != 0)
        return -1;
    do {
        const char *key, *dtype;
        if (scan_string(s, &key) != 0 || expect(s, ':') != 0)
            return -1;
        int status;
        if (strcmp(key, "dtype") == 0) {
            seen = &has_dtype;
            status = scan_string(s, &dtype);
            if (status == 0 && !dtype_parse(&t->dtype, dtype))
                t->unreadable = dtype;
        } else if (strcmp(key, "shape") == 0) {
            seen = &has_shape;
            status = scan_sizes(s, t->shape, WEIGHT_MAX_DIMS, &t->ndim);
        } else if (strcmp(key, "data_offsets") == 0) {
            seen = &has_offsets;
            status = scan_sizes(s, offsets, 2, &count);
            if (status == 0 && count != 2)
                return bad(s, "two data offsets expected");
        } else {
            seen = NULL;
            status = skip_value(s);
        }
        if (status != 0)
            return -1;
        if (seen && *seen)
            return bad(s, "duplicate key");
        if (seen)
            *seen = true;
    } while (take(s, ','));
    if (expect(s, '}') != 0)
        return -1;
    if (!has_dtype || !has_shape || !has_offsets)
        return error_set(s->e, "tensor '%.100s' lacks dtype, shape or data_offsets", name);
    *span = (struct span){offsets[0], offsets[1]};
    return 0;
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The format requires that each tensor's data match its shape, without gaps or overlaps. */
static int place(struct weights *w, struct span *spans, const uint8_t *data, size_t size,
                 struct error *e)
{
    for (int i = 0; i < w->count; i++) {
        struct weight *t = &w->items[i];
        const int64_t length = spans[i].end - spans[i].begin;
        /* How many bits an element of a type unknown here has is unknown, too. */
        int64_t bytes = t->unreadable ? length : shape_bytes(t->ndim, t->shape, t->dtype);
        if (spans[i].begin > spans[i].end || (uint64_t)spans[i].end > size)
            return error_set(e, "tensor '%.100s' lies outside the file (truncated?)", t->name);
        if (bytes != length || (t->unreadable && !weight_set_unreadable(t, t->unreadable)))
            return error_set(e, "tensor '%.100s': size in bytes does not match the shape", t->name);
        if (t->unreadable)
            continue;
        t->data = data + spans[i].begin;
        weight_set_row_major(t);
    }
    if (w->count > 0)
        qsort(spans, (size_t)w->count, sizeof *spans, compare_spans);
    int64_t at = 0;
    for (int i = 0; i < w->count; i++) {
        if (spans[i].begin != at)
            return error_set(e, "tensors overlap or leave gaps");
        at = spans[i].end;
    }
    if ((uint64_t)at != size)
        return error_set(e, "%zu extra byte%s after the last tensor", size - (size_t)at,
                         plural((int64_t)size - at));
    return 0;
}

bool safetensors_recognize(const uint8_t *data, size_t size)
{
    uint64_t header;
    if (size < 9 || data[8] != '{')
        return false;
    memcpy(&header, data, 8);
    return header <= SAFETENSORS_HEADER_MAX;
}

static int scan_header(struct scanner *s, struct span **spans)
{
    int capacity = 0;
    bool metadata_seen = false;
    if (expect(s, '{') != 0)
        return -1;
    if (!take(s, '}')) {
        do {
            const char *name;
            if (scan_string(s, &name) != 0 || expect(s, ':') != 0)
                return -1;
            if (strcmp(name, "__metadata__") == 0) {
                if (metadata_seen)
                    return bad(s, "duplicate key");
                metadata_seen = true;
                if (scan_metadata(s) != 0)
                    return -1;
                continue;
            }
            if (s->w->count == capacity) {
                struct span *grown =
                    arena_allocate(&s->w->arena, 2 * ((size_t)capacity + 8) * sizeof *grown);
                if (capacity > 0)
                    memcpy(grown, *spans, (size_t)capacity * sizeof *grown);
                *spans = grown;
                capacity = 2 * (capacity + 8);
            }
            if (scan_tensor(s, name, &(*spans)[s->w->count]) != 0)
                return -1;
        } while (take(s, ','));
        if (expect(s, '}') != 0)
            return -1;
    }
    skip_space(s);
    return s->at == s->end ? 0 : bad(s, "text after its end");
}

int safetensors_read(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    uint64_t header;
    memcpy(&header, data, 8);
    if (header > size - 8)
        return error_set(e, "truncated safetensors header");
    struct scanner s = {w, data + 8, data + 8 + header, e};
    struct span *spans = NULL;
    if (scan_header(&s, &spans) != 0)
        return -1;
    strcpy(w->format, "safetensors");
    return place(w, spans, data + 8 + header, size - 8 - (size_t)header, e);
}
