#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *data;
    size_t size, at;
    bool truncated;
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

/* libpng allocates a chunk before it reads it, whatever length the chunk claims: a signature of 8
 * bytes, then for each chunk its length, type, data and CRC (ISO/IEC 15948, 5.3). */
static bool has_all_chunks(const uint8_t *data, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        const uint8_t *p = data + at;
        size_t length = get_be32(p);
        if (length > size - at - 12)
            return false;
        if (memcmp(p + 4, "IEND", 4) == 0)
            return true;
        at += 12 + length;
    }
    return false;
}

static int decode(struct png_reader *r, int64_t max_pixels, struct error *e)
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
    if (image_check_pixels(width, height, max_pixels, e) != 0)
        return -1;
    bool key = png_get_valid(r->png, r->info, PNG_INFO_tRNS) != 0;
    set_transforms(r, bits, type, key);
    int channels = png_get_channels(r->png, r->info);
    int depth = png_get_bit_depth(r->png, r->info);
    if (image_allocate(r->image, (int)width, (int)height, channels, depth, e) != 0 ||
        read_profile(r, e) != 0)
        return -1;
    size_t stride = png_get_rowbytes(r->png, r->info);
    if (stride * height != image_bytes(r->image))
        return error_set(e, "bad PNG: %zu bytes per row of %u pixels", stride, width);
    r->image->alpha_from_key = key;
    r->rows = malloc(height * sizeof *r->rows);
    if (!r->rows)
        return error_set(e, "out of memory for %u rows", height);
    for (size_t y = 0; y < height; y++)
        r->rows[y] = r->image->pixels + y * stride;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, r->info);
    png_bytep exif;
    png_uint_32 exif_size;
    if (png_get_eXIf_1(r->png, r->info, &exif_size, &exif))
        r->image->orientation = image_exif_orientation(exif, exif_size);
    return 0;
}

/* A separate function, because longjmp makes the locals of setjmp's caller indeterminate. */
static int guarded(struct png_reader *r, int64_t max_pixels, struct error *e)
{
    if (setjmp(r->failed))
        return error_set(e, "%s", r->reason);
    return decode(r, max_pixels, e);
}

int image_png_decode(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                     struct error *e)
{
    struct png_reader r = {.data = data, .size = size, .image = image};
    image->format = IMAGE_PNG;
    if (!has_all_chunks(data, size)) {
        /* that it is too large says more */
        bool has_size = size >= 24 && memcmp(data + 12, "IHDR", 4) == 0;
        if (has_size &&
            image_check_pixels(get_be32(data + 16), get_be32(data + 20), max_pixels, e) != 0)
            return -1;
        return error_set(e, "truncated PNG");
    }
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, fail, ignore_warning);
    if (r.png)
        r.info = png_create_info_struct(r.png);
    int status = r.info ? guarded(&r, max_pixels, e) : error_set(e, "cannot initialize libpng");
    free(r.rows);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return status;
}
