#include "formats/images/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/images/image_internal.h"

void image_release(struct image *image)
{
    free(image->pixels);
    free(image->icc);
    *image = (struct image){0};
}

size_t image_bytes(const struct image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels *
           (size_t)(image->depth / 8);
}

const char *image_format_name(enum image_format format)
{
    static const char *const names[] = {"JPEG", "PNG", "WebP", "PNM"};
    return names[format];
}

int image_check_pixels(int64_t width, int64_t height, int64_t max_pixels, struct error *e)
{
    if (max_pixels <= 0)
        max_pixels = IMAGE_DEFAULT_MAX_PIXELS;
    if (width <= 0 || height <= 0)
        return error_set(e, "%lld x %lld pixels: there is nothing to see", (long long)width,
                         (long long)height);
    if (width > INT32_MAX || height > INT32_MAX || width > max_pixels / height)
        return error_set(e, "%lldx%lld pixels is over the limit of %lld", (long long)width,
                         (long long)height, (long long)max_pixels);
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
        return error_set(e, "not enough memory for %dx%d pixels", width, height);
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
        return error_set(e, "no such image: %d channels of %d bits", channels, depth);
    if (image_check_pixels(width, height, INT64_MAX / 8, e) < 0)
        return -1;
    if (allocate(image, width, height, channels, depth, true, e) < 0) {
        image_release(image);
        return -1;
    }
    image->format = IMAGE_PNM;
    return 0;
}

int image_set_icc(struct image *image, const void *icc, size_t size, struct error *e)
{
    if (size == 0 || image->icc)
        return 0;
    image->icc = malloc(size);
    if (!image->icc)
        return error_set(e, "not enough memory for a profile of %zu bytes", size);
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
            *p = '?'; /* decoders quote bytes of the file */
}

static uint32_t get_uint(const uint8_t *p, int bytes, bool big_endian)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * (big_endian ? bytes - 1 - i : i);
    return v;
}

/* TIFF 6.0: byte order, 42, offset of the first directory; entries of 12 bytes. */
int image_exif_orientation(const uint8_t *exif, size_t size)
{
    enum { ENTRY = 12, TAG_ORIENTATION = 0x112, TYPE_SHORT = 3, TYPE_LONG = 4 };
    if (size >= 6 && memcmp(exif, "Exif\0\0", 6) == 0) {
        exif += 6;
        size -= 6;
    }
    if (size < 14 || (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0))
        return 1;
    bool big = exif[0] == 'M';
    size_t directory = get_uint(exif + 4, 4, big);
    if (directory > size - 2)
        return 1;
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
    return 1;
}

static bool starts(const uint8_t *data, size_t size, size_t at, const char *magic, size_t length)
{
    return size >= at + length && memcmp(data + at, magic, length) == 0;
}

static int refuse_unknown(const uint8_t *data, size_t size, struct error *e)
{
    static const struct {
        size_t at;
        const char *magic;
        size_t length;
        const char *name;
    } others[] = {
        {0, "GIF8", 4, "GIF"},         {0, "BM", 2, "BMP"},
        {0, "II*\0", 4, "TIFF"},       {0, "MM\0*", 4, "TIFF"},
        {4, "ftypavi", 7, "AVIF"},     {4, "ftyphei", 7, "HEIF"},
        {4, "ftypmif1", 8, "HEIF"},    {4, "jP  \r\n\x87\n", 8, "JPEG 2000"},
        {0, "\xff\x0a", 2, "JPEG XL"}, {4, "JXL \r\n\x87\n", 8, "JPEG XL"},
        {0, "%PDF", 4, "PDF"},         {0, "8BPS", 4, "Photoshop"},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (starts(data, size, others[i].at, others[i].magic, others[i].length))
            return error_set(e, "not an image of a supported format (%s)", others[i].name);
    return error_set(e, "not an image (unknown format)");
}

static int decode_pnm(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                      struct error *e)
{
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!f)
        return error_errno(e, "cannot read from memory");
    int result = image_pnm_read(image, f, max_pixels, NULL, NULL, e);
    if (result < 0 && feof(f))
        error_prefix(e, "truncated PNM");
    fclose(f);
    return result;
}

static bool is_pnm(const uint8_t *data, size_t size)
{
    return size >= 3 && data[0] == 'P' && data[1] >= '1' && data[1] <= '7' &&
           (strchr(" \t\n\v\f\r#", data[2]) && data[2]);
}

int image_decode(struct image *image, const void *bytes, size_t size, int64_t max_pixels,
                 struct error *e)
{
    const uint8_t *data = bytes;
    int result;
    *image = (struct image){0};
    if (size == 0)
        return error_set(e, "empty file");
    if (starts(data, size, 0, "\xff\xd8\xff", 3))
        result = image_jpeg_decode(image, data, size, max_pixels, e);
    else if (starts(data, size, 0, "\x89PNG\r\n\x1a\n", 8))
        result = image_png_decode(image, data, size, max_pixels, e);
    else if (starts(data, size, 0, "RIFF", 4) && starts(data, size, 8, "WEBP", 4))
        result = image_webp_decode(image, data, size, max_pixels, e);
    else if (is_pnm(data, size))
        result = decode_pnm(image, data, size, max_pixels, e);
    else
        result = refuse_unknown(data, size, e);
    if (result < 0)
        image_release(image);
    return result;
}

/* The file is read, not mapped: one that shrinks meanwhile is then truncated, not SIGBUS. */
static int read_regular(uint8_t **data, size_t *size, int fd, struct error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(e, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(e, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    if (st.st_size == 0)
        return error_set(e, "empty file");
    *data = malloc((size_t)st.st_size);
    if (!*data)
        return error_set(e, "not enough memory for a file of %lld bytes", (long long)st.st_size);
    while (*size < (size_t)st.st_size) {
        ssize_t n = read(fd, *data + *size, (size_t)st.st_size - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(e, "%s", strerror(errno));
        if (n == 0)
            break;
        *size += (size_t)n;
    }
    return 0;
}

int image_read(struct image *image, const char *path, int64_t max_pixels, struct error *e)
{
    *image = (struct image){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (fd < 0)
        return error_set(e, "%s", strerror(errno));
    uint8_t *data = NULL;
    size_t size = 0;
    int result = read_regular(&data, &size, fd, e);
    close(fd);
    if (result == 0)
        result = image_decode(image, data, size, max_pixels, e);
    free(data);
    return result;
}
