#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t size, at;
    bool truncated; /* libpng asked for more than there is */
    bool in_pixels; /* the header has been read */
    bool done;      /* so have all rows */
    jmp_buf failed;
    char reason[160];
    png_bytepp rows;
    struct image *image;
};

static void fail(png_structp png, png_const_charp text)
{
    struct png_reader *r = png_get_error_ptr(png);
    if (r->truncated)
        snprintf(r->reason, sizeof r->reason, "truncated PNG");
    else
        snprintf(r->reason, sizeof r->reason, "bad PNG: %s", text);
    longjmp(r->failed, 1);
}

/* libpng warns about ancillary chunks only; damaged pixels are errors. */
static void ignore_warning(png_structp png, png_const_charp text)
{
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    struct png_reader *r = png_get_io_ptr(png);
    if (n > r->size - r->at) {
        r->truncated = true;
        png_error(png, "truncated");
    }
    memcpy(out, r->data + r->at, n);
    r->at += n;
}

static void set_transforms(struct png_reader *r, int bits, int type, bool key)
{
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(r->png);
    if (type == PNG_COLOR_TYPE_GRAY && bits < 8)
        png_set_expand_gray_1_2_4_to_8(r->png);
    if (key)
        png_set_tRNS_to_alpha(r->png);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (bits == 16)
        png_set_swap(r->png);
#endif
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
}

static int read_profile(struct png_reader *r, struct error *e)
{
    png_charp name;
    int compression;
    png_bytep icc;
    png_uint_32 size;
    if (!png_get_iCCP(r->png, r->info, &name, &compression, &icc, &size))
        return 0;
    return image_set_icc(r->image, icc, size, e);
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* What of the file libpng may see, so that it does not allocate a chunk for which there are no
 * bytes, as it would before reading it: a signature of 8 bytes, then for each chunk its length,
 * type, data and CRC (ISO/IEC 15948, 5.3). Only IDAT is read piecewise. */
struct extent {
    size_t size;   /* bytes */
    size_t idat;   /* where an IDAT that is cut off begins, or 0 */
    bool has_idat; /* pixels have begun */
    bool has_end;
};

static struct extent find_extent(const uint8_t *data, size_t size)
{
    struct extent x = {.size = 8};
    while (!x.has_end && x.size + 12 <= size) {
        const uint8_t *p = data + x.size;
        size_t length = get_be32(p);
        bool idat = memcmp(p + 4, "IDAT", 4) == 0, whole = length <= size - x.size - 12;
        x.has_idat = x.has_idat || idat;
        x.has_end = whole && memcmp(p + 4, "IEND", 4) == 0;
        if (!whole && idat) {
            x.idat = x.size;
            x.size = size;
        }
        if (!whole)
            return x;
        x.size += 12 + length;
    }
    return x;
}

/* Reads up to the last pixel. */
static int decode(struct png_reader *r, const struct image_options *o, struct error *e)
{
    png_uint_32 width, height;
    int bits, type;
    png_set_read_fn(r->png, r, read_bytes);
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* ours follow */
    /* texts, which a few bytes can inflate to megabytes */
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER,
                                (png_const_bytep) "tEXt\0zTXt\0iTXt", 3);
    png_read_info(r->png, r->info);
    png_get_IHDR(r->png, r->info, &width, &height, &bits, &type, NULL, NULL, NULL);
    if (image_check_pixels(width, height, o->max_pixels, e) != 0)
        return -1;
    bool key = png_get_valid(r->png, r->info, PNG_INFO_tRNS) != 0;
    set_transforms(r, bits, type, key);
    int channels = png_get_channels(r->png, r->info);
    int depth = png_get_bit_depth(r->png, r->info);
    if (image_allocate(r->image, (int)width, (int)height, channels, depth, e) != 0 ||
        read_profile(r, e) != 0)
        return -1;
    if (o->allow_truncated)
        image_fill(r->image, o->missing);
    size_t stride = png_get_rowbytes(r->png, r->info);
    if (stride * height != image_bytes(r->image))
        return error_set(e, "bad PNG: %zu bytes per row of %u pixels", stride, width);
    r->image->alpha_from_key = key;
    r->rows = malloc(height * sizeof *r->rows);
    if (!r->rows)
        return error_set(e, "out of memory for %u rows", height);
    for (size_t y = 0; y < height; y++)
        r->rows[y] = r->image->pixels + y * stride;
    r->in_pixels = true;
    png_read_image(r->png, r->rows);
    r->done = true;
    png_read_end(r->png, r->info);
    return 0;
}

/* A separate function, because longjmp makes the locals of setjmp's caller indeterminate. */
static int guarded(struct png_reader *r, const struct image_options *o, struct error *e)
{
    if (setjmp(r->failed))
        return error_set(e, "%s", r->reason);
    return decode(r, o, e);
}

/* After the last row, png_read_image itself reads what follows, and may fail there. */
static bool has_all_rows(const struct png_reader *r)
{
    if (r->done)
        return true;
    if (!r->in_pixels)
        return false;
    if (png_get_interlace_type(r->png, r->info) == PNG_INTERLACE_NONE)
        return png_get_current_row_number(r->png) >= png_get_image_height(r->png, r->info);
    return png_get_current_pass_number(r->png) >= 7;
}

/* Returns 0 after a failure that leaves an image: all pixels, or those that a truncated file has.
 */
static int accept(struct png_reader *r, const struct image_options *o)
{
    if (!r->in_pixels || !r->reason[0]) /* failed in libpng, not in our checks */
        return -1;
    if (has_all_rows(r)) {
        image_set_warning(r->image, r->truncated ? "the PNG ends without IEND" : r->reason);
        return 0;
    }
    r->image->truncated = r->truncated && o->allow_truncated;
    return r->image->truncated ? 0 : -1;
}

static int read_png(struct png_reader *r, const struct image_options *o, struct error *e)
{
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, fail, ignore_warning);
    if (r->png)
        r->info = png_create_info_struct(r->png);
    int status = r->info ? guarded(r, o, e) : error_set(e, "cannot initialize libpng");
    if (status != 0 && r->info)
        status = accept(r, o);
    if (status == 0)
        r->image->orientation = image_png_orientation(r->data, r->size);
    if (status == 0 && o->text)
        r->image->text = image_png_text(r->data, r->size, o->text);
    free(r->rows);
    png_destroy_read_struct(&r->png, &r->info, NULL);
    return status;
}

/* Ends an IDAT that is cut off where the file ends, since libpng reads one in large pieces. */
static int read_shortened(struct png_reader *r, size_t idat, const struct image_options *o,
                          struct error *e)
{
    uint8_t *copy = malloc(r->size + 4);
    if (!copy)
        return error_set(e, "out of memory for a PNG");
    memcpy(copy, r->data, r->size);
    size_t length = r->size - idat - 8;
    uint32_t crc = (uint32_t)crc32_z(0, copy + idat + 4, length + 4);
    for (int i = 0; i < 4; i++) {
        copy[idat + (size_t)i] = (uint8_t)(length >> (24 - 8 * i));
        copy[r->size + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    }
    r->data = copy;
    r->size += 4;
    int status = read_png(r, o, e);
    free(copy);
    return status;
}

int image_png_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e)
{
    image->format = IMAGE_PNG;
    struct extent x = find_extent(data, size);
    struct png_reader r = {.data = data, .size = x.size, .image = image};
    if (!x.has_idat) {
        /* that it is too large says more */
        bool has_size = size >= 24 && memcmp(data + 12, "IHDR", 4) == 0;
        if (has_size &&
            image_check_pixels(get_be32(data + 16), get_be32(data + 20), o->max_pixels, e) != 0)
            return -1;
        return error_set(e, "truncated PNG");
    }
    return x.idat ? read_shortened(&r, x.idat, o, e) : read_png(&r, o, e);
}
