#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "common/base/text.h"
#include "formats/images/image_build.h"

#define TEXT_MOST ((size_t)1 << 20)

static size_t get_be32(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

struct texts {
    int orientation;     /* of eXIf, or 0 */
    uint8_t *exif, *xmp; /* texts that may have one, each NULL or malloc'ed */
    size_t exif_size, xmp_size;
};

/* A copy, inflated if need be; *out stays NULL if that fails. */
static void keep(uint8_t **out, size_t *size, const uint8_t *text, size_t length, bool compressed)
{
    if (*out)
        return;
    uLongf n = compressed ? TEXT_MOST : length < TEXT_MOST ? length : TEXT_MOST;
    *out = malloc(n + 1);
    if (!*out)
        return;
    if (!compressed) {
        memcpy(*out, text, n);
    } else if (uncompress(*out, &n, text, length) != Z_OK) {
        free(*out);
        *out = NULL;
        return;
    }
    *size = n;
}

/* ISO/IEC 15948, 11.3.4: a keyword and a zero byte, then in zTXt the method; in iTXt a flag, the
 * method, a language and a translated keyword, each of which a zero byte ends. */
static void take_text(struct texts *t, const uint8_t *type, const uint8_t *p, size_t n)
{
    static const char exif[] = "Raw profile type exif", xmp[] = "XML:com.adobe.xmp";
    bool is_exif = n > sizeof exif && memcmp(p, exif, sizeof exif) == 0;
    bool is_xmp = n > sizeof xmp && memcmp(p, xmp, sizeof xmp) == 0;
    if (!is_exif && !is_xmp)
        return;
    size_t at = is_exif ? sizeof exif : sizeof xmp;
    bool compressed = false;
    if (memcmp(type, "zTXt", 4) == 0) {
        compressed = true;
        at++;
    } else if (memcmp(type, "iTXt", 4) == 0) {
        compressed = p[at] != 0;
        at += 2;
        for (int i = 0; i < 2 && at < n; i++) {
            const uint8_t *zero = memchr(p + at, 0, n - at);
            at = zero ? (size_t)(zero - p) + 1 : n;
        }
    } else if (memcmp(type, "tEXt", 4) != 0) {
        return;
    }
    if (at >= n)
        return;
    if (is_exif)
        keep(&t->exif, &t->exif_size, p + at, n - at, compressed);
    else
        keep(&t->xmp, &t->xmp_size, p + at, n - at, compressed);
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

static void take_chunk(struct texts *t, const uint8_t *chunk, size_t length)
{
    const uint8_t *type = chunk + 4, *data = chunk + 8;
    bool exif = memcmp(type, "eXIf", 4) == 0;
    if ((!exif && memcmp(type + 1, "TXt", 3) != 0 && memcmp(type, "tEXt", 4) != 0) ||
        crc32_z(0, type, length + 4) != get_be32(data + length))
        return;
    if (exif)
        t->orientation = image_exif_orientation(data, length);
    else
        take_text(t, type, data, length);
}

int image_png_orientation(const uint8_t *data, size_t size)
{
    struct texts t = {0};
    for (size_t at = 8; at + 12 <= size;) {
        size_t length = get_be32(data + at);
        if (length > size - at - 12)
            break;
        take_chunk(&t, data + at, length);
        at += 12 + length;
    }
    int exif = t.orientation, xmp = 0;
    if (!exif && t.exif)
        exif = image_exif_orientation(t.exif, decode_profile(t.exif, t.exif_size));
    if (t.xmp)
        xmp = image_xmp_orientation(t.xmp, t.xmp_size);
    free(t.exif);
    free(t.xmp);
    return image_choose_orientation(exif, xmp);
}
