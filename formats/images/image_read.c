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
            return error_set(e, "unsupported image format (%s)", others[i].name);
    error_set(e, "not an image (unknown format)");
    return IMAGE_UNKNOWN;
}

static int decode_pnm(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                      struct error *e)
{
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    if (!f)
        return error_errno(e, "cannot read from memory");
    int status = image_pnm_read(image, f, max_pixels, NULL, NULL, e);
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

typedef int decoder(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                    struct error *e);

/* NULL: the format is unknown. */
static decoder *find_decoder(const uint8_t *data, size_t size)
{
    if (starts(data, size, 0, "\xff\xd8\xff", 3))
        return image_jpeg_decode;
    if (starts(data, size, 0, "\x89PNG\r\n\x1a\n", 8))
        return image_png_decode;
    if (starts(data, size, 0, "RIFF", 4) && starts(data, size, 8, "WEBP", 4))
        return image_webp_decode;
    return is_pnm(data, size) ? decode_pnm : NULL;
}

bool image_is_known(const void *data, size_t size)
{
    return find_decoder(data, size) != NULL;
}

int image_decode(struct image *image, const void *data, size_t size, int64_t max_pixels,
                 struct error *e)
{
    *image = (struct image){0};
    if (size == 0)
        return error_set(e, "empty file");
    decoder *decode = find_decoder(data, size);
    if (!decode)
        return refuse_unknown(data, size, e);
    errno = 0;
    int status = image_check_memory(decode(image, data, size, max_pixels, e), image, e);
    if (status != 0)
        image_release(image);
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

int image_read(struct image *image, const char *path, int64_t max_pixels, struct error *e)
{
    *image = (struct image){0};
    int status, tries = 0;
    do {
        uint8_t *data;
        size_t size;
        status = read_file(&data, &size, path, e);
        if (status == 0)
            status = image_decode(image, data, size, max_pixels, e);
        free(data);
    } while (read_again(status, &tries));
    return status;
}
