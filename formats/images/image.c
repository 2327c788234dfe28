#include "formats/images/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "formats/images/image_build.h"

void image_release(struct image *image)
{
    free(image->pixels);
    free(image->icc);
    free(image->text);
    *image = (struct image){0};
}

size_t image_bytes(const struct image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels *
           (size_t)(image->depth / 8);
}

int image_check_pixels(int64_t width, int64_t height, int64_t max_pixels, struct error *e)
{
    if (max_pixels <= 0)
        max_pixels = IMAGE_DEFAULT_MAX_PIXELS;
    if (width <= 0 || height <= 0)
        return error_set(e, "the image is empty: %" PRId64 "x%" PRId64 " pixels", width, height);
    if (width > INT32_MAX || height > INT32_MAX || width > max_pixels / height)
        return error_set(e, "%" PRId64 "x%" PRId64 " pixels exceed the limit of %" PRId64, width,
                         height, max_pixels);
    return 0;
}

static int allocate(struct image *image, int width, int height, int channels, int depth, bool zero,
                    struct error *e)
{
    image->width = width;
    image->height = height;
    image->channels = channels;
    image->depth = depth;
    image->color = channels <= 2 ? IMAGE_GRAY : IMAGE_RGB;
    image->alpha = channels == 2 || channels == 4;
    image->source_maxval = depth == 8 ? 255 : 65535;
    image->orientation = 1;
    size_t bytes = image_bytes(image);
    image->pixels = zero ? calloc(bytes + IMAGE_PADDING, 1) : malloc(bytes + IMAGE_PADDING);
    if (!image->pixels)
        return error_set(e, "out of memory for %dx%d pixels", width, height);
    if (!zero)
        memset(image->pixels + bytes, 0, IMAGE_PADDING);
    return 0;
}

int image_allocate(struct image *image, int width, int height, int channels, int depth,
                   struct error *e)
{
    return allocate(image, width, height, channels, depth, false, e);
}

int image_new(struct image *image, int width, int height, int channels, int depth, struct error *e)
{
    *image = (struct image){0};
    if (channels < 1 || channels > 4 || (depth != 8 && depth != 16))
        return error_set(e, "unsupported image: %d channels of %d bits", channels, depth);
    if (image_check_pixels(width, height, INT64_MAX / 8, e) != 0)
        return -1;
    if (allocate(image, width, height, channels, depth, true, e) != 0) {
        image_release(image);
        return -1;
    }
    image->format = IMAGE_PNM;
    return 0;
}

int image_check_memory(int status, const struct image *image, struct error *e)
{
    if (errno != ENOMEM)
        return status;
    error_set(e, "out of memory for %dx%d pixels", image->width, image->height);
    return image_bytes(image) > IMAGE_LARGE ? -1 : READ_SYSTEM_FAILED;
}

int image_set_icc(struct image *image, const void *icc, size_t size, struct error *e)
{
    if (size == 0 || image->icc)
        return 0;
    image->icc = malloc(size);
    if (!image->icc)
        return error_set(e, "out of memory for a color profile of %zu bytes", size);
    memcpy(image->icc, icc, size);
    image->icc_size = size;
    return 0;
}

void image_set_warning(struct image *image, const char *text)
{
    if (image->warning[0])
        return;
    snprintf(image->warning, sizeof image->warning, "%s", text);
    for (char *p = image->warning; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '?'; /* decoders may quote bytes of the file */
}

static uint32_t get_uint(const uint8_t *p, int bytes, bool big_endian)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * (big_endian ? bytes - 1 - i : i);
    return v;
}

/* TIFF 6.0: byte order, 42, offset of the first directory; directory entries have 12 bytes. */
int image_exif_orientation(const uint8_t *exif, size_t size)
{
    enum { ENTRY = 12, TAG_ORIENTATION = 0x112, TYPE_SHORT = 3, TYPE_LONG = 4 };
    while (size >= 6 && memcmp(exif, "Exif\0\0", 6) == 0) {
        exif += 6;
        size -= 6;
    }
    if (size < 14 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0))
        return 0;
    bool big = exif[0] == 'M';
    size_t directory = get_uint(exif + 4, 4, big);
    if (directory > size - 2)
        return 0;
    size_t count = get_uint(exif + directory, 2, big);
    for (size_t i = 0; i < count; i++) {
        size_t at = directory + 2 + i * ENTRY;
        if (at + ENTRY > size)
            break;
        const uint8_t *entry = exif + at;
        if (get_uint(entry, 2, big) != TAG_ORIENTATION)
            continue;
        uint32_t type = get_uint(entry + 2, 2, big);
        if (type != TYPE_SHORT && type != TYPE_LONG)
            return 1;
        uint32_t value = get_uint(entry + 8, type == TYPE_SHORT ? 2 : 4, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 0;
}

int image_xmp_orientation(const uint8_t *xmp, size_t size)
{
    static const char name[] = "tiff:Orientation";
    if (size == 0)
        return 0;
    const uint8_t *end = xmp + size;
    for (const uint8_t *p = xmp; (p = memmem(p, (size_t)(end - p), name, sizeof name - 1));) {
        p += sizeof name - 1;
        if (end - p >= 3 && p[0] == '=' && p[1] == '"')
            p += 2;
        else if (end - p >= 2 && p[0] == '>')
            p++;
        else
            continue;
        if (*p >= '0' && *p <= '9')
            return *p >= '1' && *p <= '8' ? *p - '0' : 1;
    }
    return 0;
}

int image_choose_orientation(int exif, int xmp)
{
    return exif ? exif : xmp ? xmp : 1;
}

void image_fill(struct image *image, uint8_t value)
{
    size_t channels = (size_t)image->channels, bytes = (size_t)image->depth / 8;
    memset(image->pixels, value, image_bytes(image));
    if (image->alpha)
        for (size_t i = channels - 1; i < image_bytes(image) / bytes; i += channels)
            memset(image->pixels + i * bytes, 255, bytes);
}
