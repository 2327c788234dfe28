#include "formats/images/image_stream.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "formats/images/image_decoders.h"

static struct image_text *find(const struct image_remarks *r, const char *key)
{
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->items[i].key, key) == 0)
            return &r->items[i];
    return NULL;
}

const char *image_remarks_find(const struct image_remarks *r, const char *key)
{
    const struct image_text *t = find(r, key);
    return t ? t->value : NULL;
}

void image_remarks_set(struct image_remarks *r, const char *key, const char *value)
{
    struct image_text *t = find(r, key);
    if (t) {
        char *copy = xstrdup(value);
        free(t->value);
        t->value = copy;
        return;
    }
    r->items = xrealloc(r->items, (size_t)(r->count + 1) * sizeof *r->items);
    r->items[r->count++] = (struct image_text){xstrdup(key), xstrdup(value)};
}

void image_remarks_release(struct image_remarks *r)
{
    for (int i = 0; i < r->count; i++) {
        free(r->items[i].key);
        free(r->items[i].value);
    }
    free(r->items);
    *r = (struct image_remarks){0};
}

static bool is_key(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '_')
            return false;
    return n > 0;
}

/* Writes at most four bytes to out and returns their number. */
static int escape(char out[5], unsigned char c)
{
    switch (c) {
    case '\\':
        return sprintf(out, "\\\\");
    case '\n':
        return sprintf(out, "\\n");
    case '\r':
        return sprintf(out, "\\r");
    default:
        return sprintf(out, c < ' ' || c == 0x7f ? "\\x%02x" : "%c", c);
    }
}

/* In place. Unknown escapes are left as they are. */
static void unescape(char *s)
{
    char *out = s;
    while (*s) {
        if (*s != '\\' || !s[1]) {
            *out++ = *s++;
        } else if (s[1] == '\\' || s[1] == 'n' || s[1] == 'r') {
            *out++ = s[1] == 'n' ? '\n' : s[1] == 'r' ? '\r' : '\\';
            s += 2;
        } else if (s[1] == 'x' && hex_digit(s[2]) >= 0 && hex_digit(s[3]) >= 0 &&
                   (hex_digit(s[2]) || hex_digit(s[3]))) {
            *out++ = (char)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
            s += 4;
        } else {
            *out++ = *s++;
        }
    }
    *out = 0;
}

/* Writes `# key=value` in lines of at most `longest` bytes, the second and later ones with `key+=`.
 * A line may end inside a UTF-8 sequence; reading joins the lines again. */
static void write_remark(FILE *f, const struct image_text *t, size_t longest)
{
    size_t column = (size_t)fprintf(f, "# %s=", t->key);
    for (const char *v = t->value; *v; v++) {
        char bytes[5];
        int n = escape(bytes, (unsigned char)*v);
        if (column + (size_t)n > longest)
            column = (size_t)fprintf(f, "\n# %s+=", t->key) - 1;
        fwrite(bytes, 1, (size_t)n, f);
        column += (size_t)n;
    }
    putc('\n', f);
}

static void write_remarks(FILE *f, const struct image_remarks *remarks, size_t longest)
{
    for (int i = 0; remarks && i < remarks->count; i++) {
        CHECK(is_key(remarks->items[i].key, strlen(remarks->items[i].key)));
        write_remark(f, &remarks->items[i], longest);
    }
}

static void write_header(FILE *f, const struct image *image, const struct image_remarks *remarks,
                         bool pam)
{
    enum { LONGEST_PAM_LINE = 240, NO_LIMIT = 1 << 19 };
    int maxval = image->depth == 8 ? 255 : 65535;
    if (pam) {
        fprintf(f, "P7\n");
        write_remarks(f, remarks, LONGEST_PAM_LINE);
        fprintf(f, "WIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s%s\nENDHDR\n",
                image->width, image->height, image->channels, maxval,
                image->color == IMAGE_GRAY ? "GRAYSCALE" : "RGB", image->alpha ? "_ALPHA" : "");
        return;
    }
    fprintf(f, image->color == IMAGE_GRAY ? "P5\n" : "P6\n");
    write_remarks(f, remarks, NO_LIMIT);
    fprintf(f, "%d %d\n%d\n", image->width, image->height, maxval);
}

static void write_pixels(FILE *f, const struct image *image)
{
    if (image->depth == 8) {
        fwrite(image->pixels, 1, image_bytes(image), f);
        return;
    }
    uint8_t buffer[4096];
    const uint16_t *samples = (const uint16_t *)(const void *)image->pixels;
    size_t n = image_bytes(image) / 2, filled = 0;
    for (size_t i = 0; i < n; i++) {
        buffer[filled++] = (uint8_t)(samples[i] >> 8);
        buffer[filled++] = (uint8_t)samples[i];
        if (filled == sizeof buffer || i + 1 == n) {
            fwrite(buffer, 1, filled, f);
            filled = 0;
        }
    }
}

int image_stream_write(FILE *f, const struct image *image, const struct image_remarks *remarks,
                       struct error *e)
{
    return image_stream_write_as(f, image, remarks, false, e);
}

int image_stream_write_as(FILE *f, const struct image *image, const struct image_remarks *remarks,
                          bool pam, struct error *e)
{
    if (image->color >= IMAGE_CMYK)
        return error_set(e, "an image stream supports neither CMYK nor L*a*b*");
    errno = 0;
    write_header(f, image, remarks, pam || image->alpha);
    write_pixels(f, image);
    if (fflush(f) == EOF || ferror(f))
        return error_set(e, "%s", errno ? strerror(errno) : "write error");
    return 0;
}

void image_stream_init(struct image_stream *s, FILE *file, int64_t max_pixels)
{
    *s = (struct image_stream){.file = file, .max_pixels = max_pixels};
}

/* Parses ` key=value` or ` key+=more`. */
static void keep_remark(void *arg, const char *text)
{
    struct image_remarks *remarks = arg;
    while (*text == ' ')
        text++;
    const char *equals = strchr(text, '=');
    if (!equals)
        return;
    bool more = equals > text && equals[-1] == '+';
    size_t key_length = (size_t)(equals - text) - more;
    if (!is_key(text, key_length))
        return;
    char *key = xasprintf("%.*s", (int)key_length, text), *value = xstrdup(equals + 1);
    unescape(value);
    const char *before = more ? image_remarks_find(remarks, key) : NULL;
    if (before) {
        char *joined = xasprintf("%s%s", before, value);
        free(value);
        value = joined;
    }
    image_remarks_set(remarks, key, value);
    free(key);
    free(value);
}

int image_stream_read(struct image_stream *s, struct image *image, struct image_remarks *remarks,
                      struct error *e)
{
    *image = (struct image){0};
    if (remarks)
        *remarks = (struct image_remarks){0};
    int c;
    while ((c = getc_unlocked(s->file)) != EOF && isspace(c))
        ;
    int64_t number = s->count + 1;
    if (c == EOF)
        return ferror(s->file) ? error_set(e, "image %" PRId64 ": %s", number, strerror(errno)) : 0;
    ungetc(c, s->file);
    if (image_pnm_read(image, s->file, s->max_pixels, remarks ? keep_remark : NULL, remarks, e) !=
        0) {
        image_release(image);
        if (remarks)
            image_remarks_release(remarks);
        return error_prefix(e, "image %" PRId64, number);
    }
    s->count++;
    return 1;
}
