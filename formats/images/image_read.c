#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

static int decode_pnm(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!f)
        return error_errno(e, "cannot read from memory");
    int status = image_pnm_read(image, f, o->max_pixels, NULL, NULL, e);
    if (status != 0 && feof(f))
        error_prefix(e, "truncated PNM");
    fclose(f);
    return status;
}

static bool is_pnm(const uint8_t *data, size_t size)
{
    return size >= 3 && data[0] == 'P' && data[1] >= '1' && data[1] <= '7' &&
           (strchr(" \t\n\v\f\r#", data[2]) && data[2]);
}

typedef int decoder(struct image *image, const uint8_t *data, size_t size,
                    const struct image_options *o, struct error *e);

/* Formats with a library that the build may lack: the decoder, and what image_formats says. */
#ifdef WITH_GIF
#define GIF_DECODER image_gif_decode
#define GIF_NAME    " GIF"
#else
#define GIF_DECODER NULL
#define GIF_NAME    ""
#endif
#ifdef WITH_TIFF
#define TIFF_DECODER image_tiff_decode
#define TIFF_NAME    " TIFF"
#else
#define TIFF_DECODER NULL
#define TIFF_NAME    ""
#endif
#ifdef WITH_HEIF
#define HEIF_DECODER image_heif_decode
#define HEIF_NAME    " HEIC"
#else
#define HEIF_DECODER NULL
#define HEIF_NAME    ""
#endif
#ifdef WITH_AVIF
#define AVIF_DECODER image_avif_decode
#define AVIF_NAME    " AVIF"
#else
#define AVIF_DECODER NULL
#define AVIF_NAME    ""
#endif
#ifdef WITH_JXL
#define JXL_DECODER image_jxl_decode
#define JXL_NAME    " JPEG-XL"
#else
#define JXL_DECODER NULL
#define JXL_NAME    ""
#endif

/* A format by its first bytes. */
struct format {
    const char *name;
    size_t at;
    const char *magic;
    size_t length;
    decoder *decode;     /* NULL: not read */
    const char *package; /* Debian's, with which a build reads it; NULL: none */
};

static const struct format formats[] = {
    {"JPEG", 0, "\xff\xd8\xff", 3, image_jpeg_decode, NULL},
    {"PNG", 0, "\x89PNG\r\n\x1a\n", 8, image_png_decode, NULL},
    {"WebP", 8, "WEBP", 4, image_webp_decode, NULL},
    {"BMP", 0, "BM", 2, image_bmp_decode, NULL},
    {"GIF", 0, "GIF8", 4, GIF_DECODER, "libgif-dev"},
    {"TIFF", 0, "II*\0", 4, TIFF_DECODER, "libtiff-dev"},
    {"TIFF", 0, "MM\0*", 4, TIFF_DECODER, "libtiff-dev"},
    {"TIFF", 0, "II+\0", 4, TIFF_DECODER, "libtiff-dev"},
    {"TIFF", 0, "MM\0+", 4, TIFF_DECODER, "libtiff-dev"},
    {"JPEG XL", 0, "\xff\x0a", 2, JXL_DECODER, "libjxl-dev"},
    {"JPEG XL", 0, "\0\0\0\x0cJXL \r\n\x87\n", 12, JXL_DECODER, "libjxl-dev"},
    {"JPEG 2000", 4, "jP  \r\n\x87\n", 8, NULL, NULL},
    {"PDF", 0, "%PDF", 4, NULL, NULL},
    {"Photoshop", 0, "8BPS", 4, NULL, NULL},
};

const char image_formats[] =
    "JPEG PNG WebP PNM BMP" GIF_NAME TIFF_NAME HEIF_NAME AVIF_NAME JXL_NAME;

/* HEIF's file type box lists brands of four characters after its length, "ftyp", the major one and
 * a version (ISO/IEC 14496-12, 4.3). */
static bool has_brand(const uint8_t *data, size_t size, const char *start)
{
    if (size < 12 || memcmp(data + 4, "ftyp", 4) != 0 || data[0] || data[1] || data[2])
        return false;
    size_t end = data[3] < size ? data[3] : size;
    for (size_t at = 8; at + 4 <= end; at += at == 8 ? 8 : 4)
        if (memcmp(data + at, start, strlen(start)) == 0)
            return true;
    return false;
}

static const struct format *find_format(const uint8_t *data, size_t size)
{
    static const struct format pnm = {.name = "PNM", .decode = decode_pnm},
                               avif = {.name = "AVIF",
                                       .decode = AVIF_DECODER,
                                       .package = "libavif-dev"},
                               heic = {.name = "HEIC",
                                       .decode = HEIF_DECODER,
                                       .package = "libheif-dev"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct format *f = &formats[i];
        if (size >= f->at + f->length && memcmp(data + f->at, f->magic, f->length) == 0)
            return f;
    }
    if (has_brand(data, size, "avi"))
        return &avif;
    if (has_brand(data, size, "hei") || has_brand(data, size, "hev") ||
        has_brand(data, size, "mif1"))
        return &heic;
    return is_pnm(data, size) ? &pnm : NULL;
}

static int refuse(const struct format *f, struct error *e)
{
    if (!f) {
        error_set(e, "not an image (unknown format)");
        return IMAGE_UNKNOWN;
    }
    if (f->package)
        return error_set(e, "built without %s: needs %s and a rebuild", f->name, f->package);
    return error_set(e, "unsupported image format (%s)", f->name);
}

bool image_is_known(const void *data, size_t size)
{
    const struct format *f = find_format(data, size);
    return f && (f->decode || f->package);
}

int image_file_is_known(const char *path)
{
    uint8_t start[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, start, sizeof start);
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : image_is_known(start, (size_t)n);
}

int image_decode_with(struct image *image, const void *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    *image = (struct image){0};
    if (size == 0)
        return error_set(e, "empty file");
    const struct format *f = find_format(data, size);
    if (!f || !f->decode)
        return refuse(f, e);
    errno = 0;
    int status = image_check_memory(f->decode(image, data, size, o, e), image, e);
    if (status != 0) {
        image_release(image);
    } else if (image->truncated) {
        char text[48];
        snprintf(text, sizeof text, "truncated %s: pixels are missing", f->name);
        image->warning[0] = '\0'; /* says more than what libraries complained about */
        image_set_warning(image, text);
    }
    return status;
}

/* Reads the file instead of mapping it: one that shrinks meanwhile is then reported as truncated,
 * while a mapping would raise SIGBUS. */
static int read_regular(uint8_t **data, size_t *size, int fd, struct error *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return read_failed(e, errno);
    if (!S_ISREG(st.st_mode))
        return error_set(e, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    if (st.st_size == 0)
        return error_set(e, "empty file");
    *data = malloc((size_t)st.st_size);
    if (!*data) {
        error_set(e, "out of memory for a file of %" PRId64 " bytes", (int64_t)st.st_size);
        return st.st_size > IMAGE_LARGE ? -1 : READ_SYSTEM_FAILED;
    }
    while (*size < (size_t)st.st_size) {
        ssize_t n = read(fd, *data + *size, (size_t)st.st_size - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return read_failed(e, errno);
        if (n == 0)
            break;
        *size += (size_t)n;
    }
    return 0;
}

int image_decode(struct image *image, const void *data, size_t size, int64_t max_pixels,
                 struct error *e)
{
    return image_decode_with(image, data, size, &(struct image_options){.max_pixels = max_pixels},
                             e);
}

/* *data is malloc'ed, or NULL. */
static int read_file(uint8_t **data, size_t *size, const char *path, struct error *e)
{
    *data = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
    if (fd < 0)
        return read_failed(e, errno);
    int status = read_regular(data, size, fd, e);
    close(fd);
    return status;
}

/* *data is malloc'ed, or NULL. */
static int read_stream(uint8_t **data, size_t *size, int fd, struct error *e)
{
    size_t capacity = 0;
    *data = NULL;
    *size = 0;
    for (;;) {
        if (*size == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            *data = xrealloc(*data, capacity);
        }
        ssize_t n = read(fd, *data + *size, capacity - *size);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return error_errno(e, "cannot read");
        *size += n > 0 ? (size_t)n : 0;
    }
}

int image_read_stream(struct image *image, int fd, int64_t max_pixels, struct error *e)
{
    *image = (struct image){0};
    uint8_t *data;
    size_t size;
    int status = read_stream(&data, &size, fd, e);
    if (status == 0)
        status = image_decode(image, data, size, max_pixels, e);
    free(data);
    return status;
}

int image_read_bytes(uint8_t **data, size_t *size, const char *path, struct error *e)
{
    int status, tries = 0;
    do {
        status = read_file(data, size, path, e);
        if (status != 0) {
            free(*data);
            *data = NULL;
        }
    } while (read_again(status, &tries));
    return status;
}

int image_read_with(struct image *image, const char *path, const struct image_options *o,
                    struct error *e)
{
    *image = (struct image){0};
    int status, tries = 0;
    do {
        uint8_t *data;
        size_t size;
        status = read_file(&data, &size, path, e);
        if (status == 0)
            status = image_decode_with(image, data, size, o, e);
        free(data);
    } while (read_again(status, &tries));
    return status;
}

int image_read(struct image *image, const char *path, int64_t max_pixels, struct error *e)
{
    return image_read_with(image, path, &(struct image_options){.max_pixels = max_pixels}, e);
}
