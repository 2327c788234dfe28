#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "common/base/text.h"
#include "formats/images/image_build.h"
#include "formats/text/utf8.h"

#define TEXT_MOST ((size_t)1 << 20)

static size_t get_be32(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* A text that is looked for: the first with its keyword. */
struct wanted {
    const char *keyword;
    uint8_t *text; /* malloc'ed, with a zero byte after it, or NULL */
    size_t size;
    bool latin1;
};

/* Keeps a copy, inflated if need be, unless that fails. */
static void keep(struct wanted *w, const uint8_t *text, size_t length, bool compressed)
{
    uLongf n = compressed ? TEXT_MOST : length < TEXT_MOST ? length : TEXT_MOST;
    w->text = malloc(n + 1);
    if (!w->text)
        return;
    if (!compressed) {
        memcpy(w->text, text, n);
    } else if (uncompress(w->text, &n, text, length) != Z_OK) {
        free(w->text);
        w->text = NULL;
        return;
    }
    w->text[n] = 0;
    w->size = n;
}

/* ISO/IEC 15948, 11.3.4: a keyword and a zero byte, then in zTXt the method; in iTXt a flag, the
 * method, a language and a translated keyword, each of which a zero byte ends. */
static void take_text(struct wanted *w, const uint8_t *type, const uint8_t *p, size_t n)
{
    size_t at = strlen(w->keyword) + 1;
    if (w->text || n <= at || memcmp(p, w->keyword, at) != 0)
        return;
    bool compressed = false, latin1 = memcmp(type, "iTXt", 4) != 0;
    if (memcmp(type, "zTXt", 4) == 0) {
        compressed = true;
        at++;
    } else if (!latin1) {
        compressed = p[at] != 0;
        at += 2;
        for (int i = 0; i < 2 && at < n; i++) {
            const uint8_t *zero = memchr(p + at, 0, n - at);
            at = zero ? (size_t)(zero - p) + 1 : n;
        }
    } else if (memcmp(type, "tEXt", 4) != 0) {
        return;
    }
    w->latin1 = latin1;
    if (at < n)
        keep(w, p + at, n - at, compressed);
}

/* ImageMagick's form: a line feed, the profile's name, its length, then pairs of hexadecimal digits
 * in lines. Decodes in place and returns the number of bytes. */
static size_t decode_profile(uint8_t *text, size_t size)
{
    size_t at = 0, n = 0;
    for (int line = 0; line < 3; line++) {
        while (at < size && text[at] != '\n')
            at++;
        at++;
    }
    for (int high = -1; at < size; at++) {
        int digit = hex_digit((char)text[at]);
        if (digit < 0)
            continue;
        if (high >= 0)
            text[n++] = (uint8_t)(high << 4 | digit);
        high = high >= 0 ? -1 : digit;
    }
    return n;
}

/* The next chunk that is whole and undamaged, from *at on, and where it ends; NULL at the end. */
static const uint8_t *next_chunk(const uint8_t *data, size_t size, size_t *at, size_t *length)
{
    while (*at + 12 <= size) {
        const uint8_t *chunk = data + *at;
        *length = get_be32(chunk);
        if (*length > size - *at - 12)
            break;
        *at += 12 + *length;
        bool wanted = memcmp(chunk + 4, "eXIf", 4) == 0 || memcmp(chunk + 5, "TXt", 3) == 0 ||
                      memcmp(chunk + 4, "tEXt", 4) == 0;
        if (wanted && crc32_z(0, chunk + 4, *length + 4) == get_be32(chunk + 8 + *length))
            return chunk;
    }
    return NULL;
}

int image_png_orientation(const uint8_t *data, size_t size)
{
    struct wanted raw = {.keyword = "Raw profile type exif"},
                  xmp = {.keyword = "XML:com.adobe.xmp"};
    int of_exif = 0, of_xmp = 0;
    size_t at = 8, length;
    for (const uint8_t *chunk; (chunk = next_chunk(data, size, &at, &length));) {
        if (memcmp(chunk + 4, "eXIf", 4) == 0)
            of_exif = image_exif_orientation(chunk + 8, length);
        take_text(&raw, chunk + 4, chunk + 8, length);
        take_text(&xmp, chunk + 4, chunk + 8, length);
    }
    if (!of_exif && raw.text)
        of_exif = image_exif_orientation(raw.text, decode_profile(raw.text, raw.size));
    if (xmp.text)
        of_xmp = image_xmp_orientation(xmp.text, xmp.size);
    free(raw.text);
    free(xmp.text);
    return image_choose_orientation(of_exif, of_xmp);
}

char *image_png_text(const uint8_t *data, size_t size, const char *keyword)
{
    struct wanted w = {.keyword = keyword};
    size_t at = 8, length;
    for (const uint8_t *chunk; !w.text && (chunk = next_chunk(data, size, &at, &length));)
        take_text(&w, chunk + 4, chunk + 8, length);
    if (!w.text || !w.latin1)
        return (char *)w.text;
    char *text = malloc(2 * w.size + 1), *out = text;
    for (size_t i = 0; text && i < w.size && w.text[i]; i++)
        out = utf8_put(out, w.text[i]);
    if (text)
        *out = 0;
    free(w.text);
    return text;
}
