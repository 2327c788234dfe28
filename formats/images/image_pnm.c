#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

/* netpbm's formats: pbm(5), pgm(5), ppm(5), pam(5). P1 to P3 are plain, P4 to P6 raw, P7 is PAM. */

struct pnm_header {
    int kind; /* 1 to 7 */
    int64_t width, height, channels, maxval;
    bool cmyk, bitmap_is_black;
    bool alpha;
};

struct pnm_reader {
    FILE *f;
    pnm_comment *comment;
    void *arg;
    int64_t max_pixels;
    bool excess; /* a sample above maxval was seen */
};

#define LONGEST_COMMENT (1 << 20)

static int ended(struct pnm_reader *r, const char *where, struct error *e)
{
    if (ferror(r->f))
        return error_errno(e, "cannot read");
    return error_set(e, "ended in the middle of the %s", where);
}

/* Reads the rest of the line after `#`. */
static int read_comment(struct pnm_reader *r, struct error *e)
{
    char *text = NULL;
    size_t size = 0, n = 0;
    int c, status = 0;
    while ((c = getc_unlocked(r->f)) != EOF && c != '\n' && c != '\r') {
        if (n + 2 > size) {
            if (n > LONGEST_COMMENT) {
                free(text);
                return error_set(e, "comment longer than %d bytes", LONGEST_COMMENT);
            }
            size = size * 2 + 128;
            char *more = realloc(text, size);
            if (!more) {
                free(text);
                return error_set(e, "out of memory for a comment");
            }
            text = more;
        }
        text[n++] = (char)c;
    }
    if (c == EOF) {
        status = ended(r, "header", e);
    } else if (r->comment && n > 0) {
        text[n] = 0;
        r->comment(r->arg, text);
    }
    free(text);
    return status;
}

/* The next byte outside of white space and comments; -1 at the end of the file. */
static int next_byte(struct pnm_reader *r, const char *where, struct error *e)
{
    for (;;) {
        int c = getc_unlocked(r->f);
        if (c == EOF)
            return ended(r, where, e);
        if (c == '#') {
            if (read_comment(r, e) != 0)
                return -1;
        } else if (!isspace(c)) {
            return c;
        }
    }
}

/* Reads a decimal number and the one byte after it. */
static int read_number(struct pnm_reader *r, int64_t *value, const char *where, struct error *e)
{
    int c = next_byte(r, where, e);
    if (c < 0)
        return -1;
    *value = 0;
    if (!isdigit(c))
        return error_set(e, "bad PNM: invalid number in the %s", where);
    for (; isdigit(c); c = getc_unlocked(r->f)) {
        *value = *value * 10 + (c - '0');
        if (*value > INT32_MAX)
            return error_set(e, "bad PNM: a number in the %s is too large", where);
    }
    if (c == '#')
        return read_comment(r, e);
    if (c != EOF && !isspace(c))
        return error_set(e, "bad PNM: invalid number in the %s", where);
    return 0;
}

static int read_pnm_header(struct pnm_reader *r, struct pnm_header *h, struct error *e)
{
    bool bitmap = h->kind == 1 || h->kind == 4;
    h->channels = h->kind == 3 || h->kind == 6 ? 3 : 1;
    h->maxval = 1;
    h->bitmap_is_black = bitmap;
    if (read_number(r, &h->width, "header", e) != 0 || read_number(r, &h->height, "header", e) != 0)
        return -1;
    return bitmap ? 0 : read_number(r, &h->maxval, "header", e);
}

static int parse_pam_line(struct pnm_header *h, const char *line, char tuple_type[64],
                          struct error *e)
{
    char name[16] = "", value[64] = "", rest[2];
    int n = sscanf(line, "%15s %63s %1s", name, value, rest);
    if (n <= 0)
        return 0;
    if (strcmp(name, "TUPLTYPE") == 0) {
        snprintf(tuple_type, 64, "%s", value);
        return 0;
    }
    int64_t *field = strcmp(name, "WIDTH") == 0    ? &h->width
                     : strcmp(name, "HEIGHT") == 0 ? &h->height
                     : strcmp(name, "DEPTH") == 0  ? &h->channels
                     : strcmp(name, "MAXVAL") == 0 ? &h->maxval
                                                   : NULL;
    char *end;
    if (!field)
        return error_set(e, "bad PAM: unknown header line");
    long long v = strtoll(value, &end, 10);
    if (n != 2 || *end || v <= 0 || v > INT32_MAX)
        return error_set(e, "bad PAM: %s is not a positive number", name);
    *field = v;
    return 0;
}

static int check_tuple_type(struct pnm_header *h, const char *type, struct error *e)
{
    static const struct {
        const char *name;
        int channels;
        bool alpha, cmyk;
    } types[] = {{"BLACKANDWHITE", 1, false, false},
                 {"BLACKANDWHITE_ALPHA", 2, true, false},
                 {"GRAYSCALE", 1, false, false},
                 {"GRAYSCALE_ALPHA", 2, true, false},
                 {"RGB", 3, false, false},
                 {"RGB_ALPHA", 4, true, false},
                 {"CMYK", 4, false, true}};
    if (h->channels < 1 || h->channels > 4)
        return error_set(e, "unsupported PAM: %" PRId64 " channels", h->channels);
    h->alpha = h->channels == 2 || h->channels == 4;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i].name) == 0) {
            if (types[i].channels != h->channels)
                return error_set(e, "bad PAM: %s with %" PRId64 " channels", type, h->channels);
            h->alpha = types[i].alpha;
            h->cmyk = types[i].cmyk;
        }
    return 0;
}

static int read_pam_header(struct pnm_reader *r, struct pnm_header *h, struct error *e)
{
    char type[64] = "", line[256];
    for (;;) {
        int c = getc_unlocked(r->f);
        if (c == '#') {
            if (read_comment(r, e) != 0)
                return -1;
            continue;
        }
        ungetc(c, r->f);
        if (!fgets(line, sizeof line, r->f) || !strchr(line, '\n'))
            return feof(r->f) || ferror(r->f) ? ended(r, "header", e)
                                              : error_set(e, "bad PAM: a header line is too long");
        if (strcmp(line, "ENDHDR\n") == 0)
            break;
        if (parse_pam_line(h, line, type, e) != 0)
            return -1;
    }
    if (!h->width || !h->height || !h->channels || !h->maxval)
        return error_set(e, "bad PAM: WIDTH, HEIGHT, DEPTH or MAXVAL is missing");
    return check_tuple_type(h, type, e);
}

static int read_header(struct pnm_reader *r, struct pnm_header *h, struct error *e)
{
    int p = getc_unlocked(r->f), kind = getc_unlocked(r->f);
    if (kind == EOF)
        return ended(r, "header", e);
    if (p != 'P' || kind < '1' || kind > '7')
        return error_set(e, "not a binary PGM, PPM or PAM image");
    *h = (struct pnm_header){.kind = kind - '0'};
    if (h->kind == 7) {
        if (getc_unlocked(r->f) != '\n')
            return feof(r->f) ? ended(r, "header", e)
                              : error_set(e, "bad PAM: no line end after P7");
        if (read_pam_header(r, h, e) != 0)
            return -1;
    } else if (read_pnm_header(r, h, e) != 0) {
        return -1;
    }
    if (h->maxval < 1 || h->maxval > 65535)
        return error_set(e, "bad PNM: maxval %" PRId64 " is not in 1 to 65535", h->maxval);
    return image_check_pixels(h->width, h->height, r->max_pixels, e);
}

/* Scales to the full range, rounding like Pillow's reader. */
static uint32_t scale(struct pnm_reader *r, uint32_t v, uint32_t maxval, uint32_t full)
{
    if (v > maxval) {
        r->excess = true;
        v = maxval;
    }
    return maxval == full ? v : (uint32_t)lrint((double)v / maxval * full);
}

static int read_plain(struct pnm_reader *r, const struct pnm_header *h, struct image *image,
                      struct error *e)
{
    size_t n = (size_t)(h->width * h->height * h->channels);
    uint32_t maxval = (uint32_t)h->maxval, full = image->depth == 8 ? 255 : 65535;
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        if (h->kind == 1) { /* no white space needed between bits */
            int c = next_byte(r, "pixels", e);
            if (c < 0)
                return -1;
            if (c != '0' && c != '1')
                return error_set(e, "bad PNM: pixel is neither 0 nor 1");
            v = c == '0';
        } else if (read_number(r, &v, "pixels", e) != 0) {
            return -1;
        }
        uint32_t sample = scale(r, (uint32_t)v, maxval, full);
        if (image->depth == 8)
            image->pixels[i] = (uint8_t)sample;
        else
            ((uint16_t *)(void *)image->pixels)[i] = (uint16_t)sample;
    }
    return 0;
}

static int read_bits(struct pnm_reader *r, const struct pnm_header *h, struct image *image,
                     struct error *e)
{
    size_t width = (size_t)h->width, packed = (width + 7) / 8;
    for (int64_t y = 0; y < h->height; y++) {
        uint8_t *row = image->pixels + (size_t)y * width;
        uint8_t *bits = row + width - packed; /* unpacked in place, from the front */
        if (fread(bits, 1, packed, r->f) != packed)
            return ended(r, "pixels", e);
        uint8_t byte = 0;
        for (size_t x = 0; x < width; x++) {
            if (x % 8 == 0)
                byte = bits[x / 8];
            row[x] = byte >> (7 - x % 8) & 1 ? 0 : 255;
        }
    }
    return 0;
}

static int read_raw(struct pnm_reader *r, const struct pnm_header *h, struct image *image,
                    struct error *e)
{
    size_t bytes = image_bytes(image), n = bytes / (size_t)(image->depth / 8);
    if (fread(image->pixels, 1, bytes, r->f) != bytes)
        return ended(r, "pixels", e);
    uint32_t maxval = (uint32_t)h->maxval;
    if (image->depth == 16) {
        uint16_t *samples = (uint16_t *)(void *)image->pixels;
        for (size_t i = 0; i < n; i++) {
            const uint8_t *p = image->pixels + 2 * i;
            samples[i] = (uint16_t)scale(r, (uint32_t)p[0] << 8 | p[1], maxval, 65535);
        }
    } else if (maxval != 255) {
        for (size_t i = 0; i < n; i++)
            image->pixels[i] = (uint8_t)scale(r, image->pixels[i], maxval, 255);
    }
    return 0;
}

int image_pnm_read(struct image *image, FILE *f, int64_t max_pixels, pnm_comment *comment,
                   void *arg, struct error *e)
{
    struct pnm_reader r = {.f = f, .comment = comment, .arg = arg, .max_pixels = max_pixels};
    struct pnm_header h;
    image->format = IMAGE_PNM;
    if (read_header(&r, &h, e) != 0 ||
        image_allocate(image, (int)h.width, (int)h.height, (int)h.channels, h.maxval > 255 ? 16 : 8,
                       e) != 0)
        return -1;
    image->alpha = h.alpha;
    if (h.cmyk)
        image->color = IMAGE_CMYK;
    image->source_maxval = h.bitmap_is_black ? 255 : (int)h.maxval;
    int status = h.kind <= 3   ? read_plain(&r, &h, image, e)
                 : h.kind == 4 ? read_bits(&r, &h, image, e)
                               : read_raw(&r, &h, image, e);
    if (r.excess)
        image_set_warning(image, "samples exceed the header's maxval");
    return status;
}
