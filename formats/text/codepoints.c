#include "formats/text/codepoints.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/text/utf8.h"

void codepoints_release(struct codepoints *c)
{
    free(c->at);
    *c = (struct codepoints){0};
}

static void reserve(struct codepoints *c, size_t count)
{
    if (count <= c->capacity)
        return;
    c->capacity = count > 2 * c->capacity ? count : 2 * c->capacity;
    c->capacity = c->capacity < 64 ? 64 : c->capacity;
    c->at = xrealloc(c->at, c->capacity * sizeof *c->at);
}

void codepoints_push(struct codepoints *c, uint32_t codepoint)
{
    reserve(c, c->count + 1);
    c->at[c->count++] = codepoint;
}

void codepoints_append(struct codepoints *c, const uint32_t *from, size_t count)
{
    reserve(c, c->count + count);
    if (count)
        memcpy(c->at + c->count, from, count * sizeof *from);
    c->count += count;
}

/* Decodes one code point from 1 to 4 of `size` > 0 bytes and returns their number. The range of the
 * second byte excludes overlong forms, surrogates and values above U+10FFFF. */
static size_t decode_one(uint32_t *codepoint, const unsigned char *s, size_t size)
{
    unsigned char lead = s[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    *codepoint = 0xFFFD;
    if (length == 0 || lead > 0xF4)
        return 1;
    uint32_t value = length == 1 ? lead : lead & (0x7F >> length);
    for (size_t i = 1; i < length; i++) {
        unsigned char low = 0x80, high = 0xBF;
        if (i == 1) {
            low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : low;
            high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : high;
        }
        if (i == size || s[i] < low || s[i] > high)
            return i;
        value = value << 6 | (s[i] & 0x3F);
    }
    *codepoint = value;
    return length;
}

void codepoints_decode(struct codepoints *c, const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    reserve(c, c->count + size);
    while (size) {
        size_t used = decode_one(&c->at[c->count++], s, size);
        s += used;
        size -= used;
    }
}

char *codepoints_encode(const uint32_t *from, size_t count, size_t *size)
{
    char *out = xmalloc(4 * count + 1), *end = out;
    for (size_t i = 0; i < count; i++)
        end = utf8_put(end, from[i]);
    *end = 0;
    *size = (size_t)(end - out);
    return out;
}
