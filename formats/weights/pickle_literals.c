#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/text.h"
#include "formats/text/utf8.h"
#include "formats/weights/pickle_reader.h"

#define LINE_MAX ((size_t)1 << 12) /* bytes of a number terminated by a newline */

const uint8_t *pickle_take(struct pickle_reader *r, uint64_t size)
{
    if (size > (uint64_t)(r->end - r->at)) {
        pickle_truncated(r);
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += size;
    return p;
}

int pickle_take_number(struct pickle_reader *r, int bytes, uint64_t *value)
{
    const uint8_t *p = pickle_take(r, (uint64_t)bytes);
    if (!p)
        return -1;
    *value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *value = *value << 8 | p[i];
    return 0;
}

int pickle_read_counted(struct pickle_reader *r, enum pickle_kind kind, int count_bytes)
{
    uint64_t size;
    const uint8_t *p;
    if (pickle_take_number(r, count_bytes, &size) != 0 || !(p = pickle_take(r, size)))
        return -1;
    return pickle_push_string(r, kind, p, (size_t)size);
}

int pickle_take_line(struct pickle_reader *r, struct pickle_string *line)
{
    const uint8_t *p = r->at, *newline = memchr(p, '\n', (size_t)(r->end - p));
    if (!newline) {
        pickle_truncated(r);
        return -1;
    }
    *line = (struct pickle_string){(const char *)p, (size_t)(newline - p)};
    r->at = newline + 1;
    return 0;
}

/* Reads a line as zero-terminated text into the caller's buffer. */
static int take_short_line(struct pickle_reader *r, char text[LINE_MAX])
{
    struct pickle_string line;
    if (pickle_take_line(r, &line) != 0)
        return -1;
    if (line.size >= LINE_MAX || memchr(line.bytes, 0, line.size))
        return pickle_bad(r, "number expected");
    memcpy(text, line.bytes, line.size);
    text[line.size] = 0;
    return 0;
}

int pickle_take_decimal(struct pickle_reader *r, int64_t *value)
{
    char text[LINE_MAX], *end;
    if (take_short_line(r, text) != 0)
        return -1;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (*end == 'L')
        end++;
    return errno || end == text || *end ? pickle_bad(r, "number expected") : 0;
}

int pickle_read_int_line(struct pickle_reader *r)
{
    if (r->end - r->at >= 3 && r->at[0] == '0' && r->at[2] == '\n' &&
        (r->at[1] == '0' || r->at[1] == '1')) { /* False and True in protocol 0 */
        int64_t value = r->at[1] - '0';
        r->at += 3;
        return pickle_push_int(r, PICKLE_BOOL, value);
    }
    int64_t value;
    return pickle_take_decimal(r, &value) != 0 ? -1 : pickle_push_int(r, PICKLE_INT, value);
}

int pickle_read_long_line(struct pickle_reader *r)
{
    struct pickle_string line;
    int64_t value;
    const uint8_t *start = r->at;
    if (pickle_take_line(r, &line) != 0)
        return -1;
    if (line.size > 19) /* may exceed 64 bits */
        return pickle_push_string(r, PICKLE_LONG, line.bytes, line.size);
    r->at = start;
    return pickle_take_decimal(r, &value) != 0 ? -1 : pickle_push_int(r, PICKLE_INT, value);
}

int pickle_read_float_line(struct pickle_reader *r)
{
    char text[LINE_MAX], *end;
    if (take_short_line(r, text) != 0)
        return -1;
    double value = strtod(text, &end);
    return end == text || *end ? pickle_bad(r, "number expected") : pickle_push_float(r, value);
}

int pickle_read_binary_float(struct pickle_reader *r)
{
    const uint8_t *p = pickle_take(r, 8);
    if (!p)
        return -1;
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    double value;
    memcpy(&value, &bits, 8);
    return pickle_push_float(r, value);
}

int pickle_read_long(struct pickle_reader *r, int count_bytes)
{
    uint64_t size, bits;
    const uint8_t *p;
    if (pickle_take_number(r, count_bytes, &size) != 0 || !(p = pickle_take(r, size)))
        return -1;
    if (size > 8)
        return pickle_push_string(r, PICKLE_LONG, p, (size_t)size);
    bits = size > 0 && p[size - 1] & 0x80 ? UINT64_MAX : 0; /* sign */
    for (size_t i = size; i-- > 0;)
        bits = bits << 8 | p[i];
    return pickle_push_int(r, PICKLE_INT, (int64_t)bits);
}

/* The value of `digits` hexadecimal digits at p, or -1. */
static int64_t hex_number(const char *p, const char *end, int digits)
{
    int64_t value = 0;
    if (end - p < digits)
        return -1;
    for (int i = 0; i < digits; i++) {
        int d = hex_digit(p[i]);
        if (d < 0)
            return -1;
        value = value << 4 | d;
    }
    return value;
}

/* Protocol 0's 'V': Latin-1 with the escapes \uXXXX and \UXXXXXXXX only. */
int pickle_read_unicode_line(struct pickle_reader *r)
{
    struct pickle_string line;
    if (pickle_take_line(r, &line) != 0)
        return -1;
    char *text = arena_allocate(r->arena, 2 * line.size + 1), *out = text;
    for (const char *p = line.bytes, *end = p + line.size; p < end;) {
        uint32_t c = (uint8_t)*p++;
        int digits = c != '\\' || p == end ? 0 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
        if (digits > 0) {
            int64_t code = hex_number(p + 1, end, digits);
            if (code < 0 || code >= 0x110000)
                return pickle_bad(r, "bad escape");
            c = (uint32_t)code;
            p += 1 + digits;
        }
        out = utf8_put(out, c);
    }
    return pickle_push_string(r, PICKLE_TEXT, text, (size_t)(out - text));
}

/* Protocol 0's 'S': the repr of a Python 2 str. */
int pickle_read_string_line(struct pickle_reader *r)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    struct pickle_string line;
    if (pickle_take_line(r, &line) != 0)
        return -1;
    const char *p = line.bytes, *end = p + line.size;
    while (end > p && (end[-1] == '\r' || end[-1] == ' '))
        end--;
    if (end - p < 2 || (*p != '\'' && *p != '"') || end[-1] != *p)
        return pickle_bad(r, "quoted string expected");
    p++, end--;
    char *text = arena_allocate(r->arena, line.size), *out = text;
    while (p < end) {
        char c = *p++;
        if (c == '\\' && p < end) {
            const char *known = *p ? strchr(from, *p) : NULL;
            int64_t code;
            if (known) {
                c = to[known - from];
                p++;
            } else if (*p == 'x' && (code = hex_number(p + 1, end, 2)) >= 0) {
                c = (char)code;
                p += 3;
            } else {
                return pickle_bad(r, "bad escape");
            }
        }
        *out++ = c;
    }
    return pickle_push_string(r, PICKLE_BYTES, text, (size_t)(out - text));
}

int pickle_read_signed(struct pickle_reader *r)
{
    uint64_t n;
    return pickle_take_number(r, 4, &n) != 0 ? -1
                                             : pickle_push_int(r, PICKLE_INT, (int32_t)(uint32_t)n);
}

int pickle_read_unsigned(struct pickle_reader *r, int bytes)
{
    uint64_t n;
    return pickle_take_number(r, bytes, &n) != 0 ? -1 : pickle_push_int(r, PICKLE_INT, (int64_t)n);
}
