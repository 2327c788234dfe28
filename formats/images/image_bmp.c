#include <stdlib.h>
#include <string.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

/* Windows bitmaps and OS/2's first kind, read as Pillow does: a file header of 14 bytes, an
 * information header (its first word is its size), bit masks or a palette, and rows from the bottom
 * up, each padded to four bytes. Numbers are little-endian. */

enum { FILE_HEADER = 14, CORE_HEADER = 12, COLORS_MOST = 256 };
enum { RAW = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3 };

struct bmp {
    const uint8_t *data;
    size_t size;
    uint32_t header; /* bytes of the information header */
    size_t pixels;   /* where they start */
    size_t after;    /* where the palette or the end of the masks is */
    int64_t width, height;
    bool top_down;
    uint32_t bits, compression, colors;
    uint32_t masks[4]; /* red, green, blue, alpha */
    uint8_t palette[COLORS_MOST][3];
};

static uint32_t get_le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get_le32(const uint8_t *p)
{
    return get_le16(p) | get_le16(p + 2) << 16;
}

static int truncated(struct error *e)
{
    return error_set(e, "truncated BMP");
}

static void read_core_header(struct bmp *b)
{
    const uint8_t *p = b->data + FILE_HEADER;
    b->width = get_le16(p + 4);
    b->height = get_le16(p + 6);
    b->bits = get_le16(p + 10);
}

static int read_info_header(struct bmp *b, struct error *e)
{
    const uint8_t *p = b->data + FILE_HEADER;
    b->width = (int32_t)get_le32(p + 4);
    b->height = (int32_t)get_le32(p + 8);
    b->top_down = b->height < 0;
    b->height = b->top_down ? -b->height : b->height;
    b->bits = get_le16(p + 14);
    b->compression = get_le32(p + 16);
    b->colors = get_le32(p + 32);
    if (b->compression != BITFIELDS)
        return 0;
    int masks = b->header >= 56 ? 4 : 3; /* after a header of 40 bytes, or its last part */
    if (b->size < FILE_HEADER + 40 + 4 * (size_t)masks)
        return truncated(e);
    for (int i = 0; i < masks; i++)
        b->masks[i] = get_le32(p + 40 + 4 * i);
    if (b->header == 40)
        b->after += 12;
    return 0;
}

static int read_header(struct bmp *b, struct error *e)
{
    if (b->size < FILE_HEADER + 4)
        return truncated(e);
    b->pixels = get_le32(b->data + 10);
    b->header = get_le32(b->data + FILE_HEADER);
    if (b->header != CORE_HEADER && b->header != 40 && b->header != 52 && b->header != 56 &&
        b->header != 64 && b->header != 108 && b->header != 124)
        return error_set(e, "unsupported BMP: a header of %u bytes", b->header);
    if (b->size < FILE_HEADER + (size_t)b->header)
        return truncated(e);
    b->after = FILE_HEADER + (size_t)b->header;
    if (b->header == CORE_HEADER)
        read_core_header(b);
    else if (read_info_header(b, e) != 0)
        return -1;
    bool rle = (b->compression == RLE8 && b->bits == 8) || (b->compression == RLE4 && b->bits == 4);
    if (b->compression != RAW && b->compression != BITFIELDS && !rle)
        return error_set(e, "unsupported BMP: compression %u of %u bits", b->compression, b->bits);
    if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 &&
        b->bits != 32)
        return error_set(e, "unsupported BMP: %u bits per pixel", b->bits);
    if (b->compression == BITFIELDS && b->bits < 16)
        return error_set(e, "unsupported BMP: bit masks for %u bits", b->bits);
    return 0;
}

/* Indices beyond the palette are black, as in Pillow. */
static int read_palette(struct bmp *b, struct error *e)
{
    size_t entry = b->header == CORE_HEADER ? 3 : 4;
    size_t count = b->colors ? b->colors : (size_t)1 << b->bits;
    if (count > 65536)
        return error_set(e, "bad BMP: a palette of %zu colors", count);
    if (count * entry > b->size - b->after)
        return truncated(e);
    for (size_t i = 0; i < COLORS_MOST; i++)
        for (size_t c = 0; c < 3; c++)
            b->palette[i][c] = i < count ? b->data[b->after + i * entry + 2 - c] : 0;
    if (b->pixels == FILE_HEADER + (size_t)b->header) /* written by programs that forgot it */
        b->pixels += count * entry;
    return 0;
}

/* A channel's value, scaled to 8 bits and rounded down as in Pillow; 255 without a mask. */
static uint8_t masked(uint32_t pixel, uint32_t mask)
{
    if (mask == 0)
        return 255;
    int shift = __builtin_ctz(mask);
    uint64_t most = mask >> shift, value = (pixel & mask) >> shift;
    return (uint8_t)(value * 255 / most);
}

static void choose_masks(struct bmp *b)
{
    static const uint32_t masks_15[4] = {0x7c00, 0x3e0, 0x1f},
                          masks_24[4] = {0xff0000, 0xff00, 0xff},
                          masks_32[4] = {0xff0000, 0xff00, 0xff, 0xff000000};
    const uint32_t *m = b->bits == 16 ? masks_15 : masks_24;
    bool none = !(b->masks[0] | b->masks[1] | b->masks[2] | b->masks[3]);
    if (b->compression == BITFIELDS && none && b->bits == 32)
        m = masks_32;
    if (b->compression != BITFIELDS || none)
        memcpy(b->masks, m, sizeof b->masks);
}

static void unpack_masked(uint8_t *to, const uint8_t *from, const struct bmp *b, int channels)
{
    for (int64_t x = 0; x < b->width; x++, from += b->bits / 8) {
        uint32_t pixel = b->bits == 16 ? get_le16(from) : get_le16(from) | (uint32_t)from[2] << 16;
        if (b->bits == 32)
            pixel |= (uint32_t)from[3] << 24;
        for (int c = 0; c < channels; c++)
            *to++ = masked(pixel, b->masks[c]);
    }
}

static uint8_t *put_color(uint8_t *to, const struct bmp *b, unsigned int index)
{
    memcpy(to, b->palette[index], 3);
    return to + 3;
}

static void unpack_indices(uint8_t *to, const uint8_t *from, const struct bmp *b)
{
    unsigned int bits = b->bits, mask = (1U << bits) - 1;
    for (int64_t x = 0; x < b->width; x++) {
        unsigned int at = (unsigned int)(x * bits % 8);
        to = put_color(to, b, from[x * bits / 8] >> (8 - bits - at) & mask);
    }
}

static int unpack_rows(struct image *image, const struct bmp *b, struct error *e)
{
    size_t stride = ((size_t)b->width * b->bits + 31) / 32 * 4;
    size_t needed = stride * (size_t)(b->height - 1) + ((size_t)b->width * b->bits + 7) / 8;
    if (b->pixels > b->size || needed > b->size - b->pixels)
        return truncated(e);
    for (int64_t y = 0; y < b->height; y++) {
        const uint8_t *from = b->data + b->pixels + stride * (size_t)y;
        size_t row = (size_t)(b->top_down ? y : b->height - 1 - y);
        uint8_t *to = image->pixels + row * (size_t)image->width * (size_t)image->channels;
        if (b->bits <= 8)
            unpack_indices(to, from, b);
        else
            unpack_masked(to, from, b, image->channels);
    }
    return 0;
}

/* Run lengths: where pixels go next, counted in the order of the file. */
struct runs {
    const struct bmp *b;
    struct image *image;
    size_t at; /* in the file */
    int64_t x, y;
};

static void put_index(struct runs *r, unsigned int index)
{
    const struct bmp *b = r->b;
    if (r->x < b->width && r->y < b->height) {
        int64_t row = b->top_down ? r->y : b->height - 1 - r->y;
        put_color(r->image->pixels + 3 * (row * b->width + r->x), b, index);
    }
    r->x++;
}

static unsigned int index_of(const struct bmp *b, const uint8_t *from, int i)
{
    if (b->compression == RLE8)
        return from[i];
    return i % 2 ? from[i / 2] & 15 : from[i / 2] >> 4;
}

/* Copies `count` pixels, padded to two bytes. */
static int copy_absolute(struct runs *r, int count, struct error *e)
{
    size_t bytes = r->b->compression == RLE8 ? (size_t)count : ((size_t)count + 1) / 2;
    if (bytes > r->b->size - r->at)
        return truncated(e);
    for (int i = 0; i < count; i++)
        put_index(r, index_of(r->b, r->b->data + r->at, i));
    r->at += bytes;
    r->at += r->at & 1 && r->at < r->b->size;
    return 0;
}

/* Returns 1 at the end of the bitmap. */
static int read_escape(struct runs *r, unsigned int code, struct error *e)
{
    switch (code) {
    case 0:
        r->x = 0;
        r->y++;
        return 0;
    case 1:
        return 1;
    case 2:
        if (r->b->size - r->at < 2)
            return truncated(e);
        r->x += r->b->data[r->at];
        r->y += r->b->data[r->at + 1];
        r->at += 2;
        return 0;
    default:
        return copy_absolute(r, (int)code, e);
    }
}

static int unpack_runs(struct image *image, const struct bmp *b, struct error *e)
{
    struct runs r = {.b = b, .image = image, .at = b->pixels};
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height; i++)
        put_color(image->pixels + 3 * i, b, 0); /* what the runs leave out */
    int status = 0;
    while (status == 0) {
        if (r.at > b->size || b->size - r.at < 2) /* nothing but the end may be missing */
            return r.y + (r.x >= b->width) >= b->height ? 0 : truncated(e);
        unsigned int count = b->data[r.at], code = b->data[r.at + 1];
        uint8_t pair[1] = {(uint8_t)code};
        r.at += 2;
        if (count == 0)
            status = read_escape(&r, code, e);
        for (unsigned int i = 0; i < count; i++)
            put_index(&r, index_of(b, pair, b->compression == RLE8 ? 0 : (int)(i % 2)));
    }
    return status < 0 ? -1 : 0;
}

/* A header of 124 bytes may be followed, somewhere, by a profile. */
static int read_profile(struct image *image, const struct bmp *b, struct error *e)
{
    enum { EMBEDDED = 0x4d424544 };
    if (b->header != 124)
        return 0;
    const uint8_t *p = b->data + FILE_HEADER;
    size_t offset = FILE_HEADER + (size_t)get_le32(p + 112), size = get_le32(p + 116);
    if (get_le32(p + 56) != EMBEDDED || offset > b->size || size > b->size - offset)
        return 0;
    return image_set_icc(image, b->data + offset, size, e);
}

int image_bmp_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e)
{
    struct bmp b = {.data = data, .size = size};
    image->format = IMAGE_BMP;
    if (read_header(&b, e) != 0 || image_check_pixels(b.width, b.height, o->max_pixels, e) != 0 ||
        (b.bits <= 8 && read_palette(&b, e) != 0))
        return -1;
    if (b.pixels == 0)
        b.pixels = b.after;
    choose_masks(&b);
    int channels = b.compression == BITFIELDS && b.bits == 32 && b.masks[3] ? 4 : 3;
    if (image_allocate(image, (int)b.width, (int)b.height, channels, 8, e) != 0 ||
        read_profile(image, &b, e) != 0)
        return -1;
    if (b.compression == RLE8 || b.compression == RLE4)
        return unpack_runs(image, &b, e);
    return unpack_rows(image, &b, e);
}
