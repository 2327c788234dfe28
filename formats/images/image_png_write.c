#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "common/base/message.h"
#include "formats/images/image.h"
#include "formats/text/utf8.h"

struct png_writer {
    png_structp png;
    png_infop info;
    FILE *f;
    jmp_buf failed;
    char reason[160];
    png_text *texts;
    int count;
};

static void fail(png_structp png, png_const_charp text)
{
    struct png_writer *w = png_get_error_ptr(png);
    if (!w->reason[0])
        snprintf(w->reason, sizeof w->reason, "cannot create PNG: %s", text);
    longjmp(w->failed, 1);
}

static void ignore_warning(png_structp png, png_const_charp text)
{
}

static void write_bytes(png_structp png, png_bytep data, size_t n)
{
    struct png_writer *w = png_get_io_ptr(png);
    errno = 0;
    if (fwrite(data, 1, n, w->f) != n) {
        snprintf(w->reason, sizeof w->reason, "%s", errno ? strerror(errno) : "write error");
        png_error(png, "write");
    }
}

static void flush(png_structp png)
{
}

/* Returns the code point at *s and advances *s past it; U+FFFD for a byte of invalid UTF-8. */
static uint32_t next_code_point(const unsigned char **s)
{
    const unsigned char *p = *s;
    int more = p[0] < 0x80   ? 0
               : p[0] < 0xc2 ? -1
               : p[0] < 0xe0 ? 1
               : p[0] < 0xf0 ? 2
               : p[0] < 0xf5 ? 3
                             : -1;
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint32_t c = more <= 0 ? p[0] : p[0] & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            more = -1;
            break;
        }
        c = c << 6 | (p[i] & 0x3fu);
    }
    *s = p + (more < 0 ? 1 : more + 1);
    if (more < 0 || c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0xfffd;
    return c;
}

/* Converts value to Latin-1 if possible, otherwise to valid UTF-8; malloc'ed. */
static char *encode_text(const char *value, bool *latin1)
{
    const unsigned char *s = (const unsigned char *)value;
    *latin1 = true;
    while (*s)
        if (next_code_point(&s) > 0xff)
            *latin1 = false;
    char *text = xmalloc(3 * strlen(value) + 1), *out = text;
    for (s = (const unsigned char *)value; *s;) {
        uint32_t c = next_code_point(&s);
        if (*latin1)
            *out++ = (char)c;
        else
            out = utf8_put(out, c);
    }
    *out = 0;
    return text;
}

static int set_texts(struct png_writer *w, const struct image_text *texts, int count,
                     struct error *e)
{
    w->texts = xcalloc((size_t)count + 1, sizeof *w->texts);
    for (int i = 0; i < count; i++) {
        size_t length = strlen(texts[i].key);
        bool good = length >= 1 && length <= 79;
        for (size_t j = 0; j < length; j++)
            good = good && texts[i].key[j] >= ' ' && texts[i].key[j] <= '~';
        if (!good)
            return error_set(e, "'%.80s' is not a valid PNG text key", texts[i].key);
        bool latin1;
        png_text *t = &w->texts[w->count++];
        t->key = texts[i].key;
        t->text = encode_text(texts[i].value, &latin1);
        t->text_length = latin1 ? strlen(t->text) : 0;
        t->itxt_length = latin1 ? 0 : strlen(t->text);
        t->compression = latin1 ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    }
    return 0;
}

static void encode(struct png_writer *w, const struct image *image, int level)
{
    static const int types[] = {0, PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA,
                                PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
    png_set_write_fn(w->png, w, write_bytes, flush);
    png_set_user_limits(w->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_compression_level(w->png, level);
    png_set_IHDR(w->png, w->info, (png_uint_32)image->width, (png_uint_32)image->height,
                 image->depth, types[image->channels], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_text(w->png, w->info, w->texts, w->count);
    png_write_info(w->png, w->info);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (image->depth == 16)
        png_set_swap(w->png);
#endif
    size_t stride = image_bytes(image) / (size_t)image->height;
    for (size_t y = 0; y < (size_t)image->height; y++)
        png_write_row(w->png, image->pixels + y * stride);
    png_write_end(w->png, w->info);
}

/* A separate function, because longjmp makes the locals of setjmp's caller indeterminate. */
static int guarded(struct png_writer *w, const struct image *image, int level, struct error *e)
{
    if (setjmp(w->failed))
        return error_set(e, "%s", w->reason);
    encode(w, image, level);
    return 0;
}

int png_write(FILE *f, const struct image *image, const struct image_text *texts, int count,
              int level, struct error *e)
{
    if (image->color >= IMAGE_CMYK)
        return error_set(e, "PNG supports neither CMYK nor L*a*b*");
    if (level < -1 || level > 9)
        return error_set(e, "compression level %d is not in -1 to 9", level);
    struct png_writer w = {.f = f};
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, fail, ignore_warning);
    if (w.png)
        w.info = png_create_info_struct(w.png);
    int status = w.info ? set_texts(&w, texts, count, e) : error_set(e, "cannot initialize libpng");
    if (status == 0)
        status = guarded(&w, image, level, e);
    int number = errno;
    for (int i = 0; i < w.count; i++)
        free(w.texts[i].text);
    free(w.texts);
    png_destroy_write_struct(&w.png, &w.info);
    errno = status == 0 ? 0 : number;
    if (status == 0 && (fflush(f) == EOF || ferror(f)))
        return error_set(e, "%s", errno ? strerror(errno) : "write error");
    return status;
}

int png_encode(uint8_t **data, size_t *size, const struct image *image,
               const struct image_text *texts, int count, int level, struct error *e)
{
    char *memory = NULL;
    FILE *f = open_memstream(&memory, size);
    if (!f)
        return error_errno(e, "cannot open a memory stream");
    int status = png_write(f, image, texts, count, level, e);
    if (fclose(f) == EOF && status == 0)
        status = error_errno(e, "out of memory for a PNG");
    if (status != 0) {
        free(memory);
        memory = NULL;
    }
    *data = (uint8_t *)memory;
    return status;
}
