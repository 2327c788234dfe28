#include "common/images/prepare.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "common/base/message.h"
#include "common/images/prepare_steps.h"

/* v with opacity `alpha` over white: Pillow's Image.alpha_composite with its 7 bits of extra
 * precision. */
static uint8_t over_white(uint32_t v, uint32_t alpha)
{
    enum { BITS = 7 };
    uint32_t ours = alpha << BITS, white = (255u << BITS) - ours;
    uint32_t sum = v * ours + 255 * white + (0x80u << BITS);
    return (uint8_t)(((sum >> 8) + sum) >> 8 >> BITS);
}

/* One ink of CMYK to a channel of RGB, as Pillow's convert does. */
static uint8_t ink_to_light(uint32_t ink, uint32_t black)
{
    uint32_t light = 255 - black, product = ink * light + 128;
    uint32_t covered = ((product >> 8) + product) >> 8;
    return (uint8_t)(light > covered ? light - covered : 0);
}

int prepare_begin(struct image *out, const struct image *in, int channels, struct error *e)
{
    if (image_new(out, in->width, in->height, channels, 8, e) != 0)
        return -1;
    out->orientation = in->orientation;
    out->format = in->format;
    memcpy(out->warning, in->warning, sizeof out->warning);
    return 0;
}

void prepare_finish(struct image *image, struct image *out)
{
    image_release(image);
    *image = *out;
}

/* The profile describes the 8-bit pixels just as well. */
static void keep_profile(struct image *out, struct image *in)
{
    out->icc = in->icc;
    out->icc_size = in->icc_size;
    in->icc = NULL;
}

static uint8_t reduce(const struct image *image, enum prepare_color how, uint16_t v)
{
    if (image->color == IMAGE_GRAY && (!image->alpha || image->alpha_from_key)) {
        /* Pillow keeps 16-bit gray as it is, and convert('RGB') clips it. */
        if (how == PREPARE_DISPLAY)
            return (uint8_t)(v / 257);
        uint32_t stored = ((uint32_t)v * (uint32_t)image->source_maxval + 32767) / 65535;
        if (image->format != IMAGE_TIFF) /* Pillow scales PNM to 16 bits */
            stored = v;
        return stored > 255 ? 255 : (uint8_t)stored;
    }
    /* Pillow's readers reduce the others to 8 bits: PNG to the high byte, PNM by rounding the
     * file's own samples. */
    if (image->format != IMAGE_PNM)
        return (uint8_t)(v >> 8);
    double maxval = image->source_maxval;
    return (uint8_t)lrint(rint(v / 65535.0 * maxval) / maxval * 255);
}

static int to_8_bits(struct image *image, enum prepare_color how, struct error *e)
{
    struct image out;
    if (prepare_begin(&out, image, image->channels, e) != 0)
        return -1;
    out.color = image->color;
    out.alpha = image->alpha;
    keep_profile(&out, image);
    const uint16_t *in = (const uint16_t *)(const void *)image->pixels;
    size_t pixels = (size_t)image->width * (size_t)image->height;
    int channels = image->channels;
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < channels; c++) {
            size_t at = i * (size_t)channels + (size_t)c;
            bool opacity = image->alpha && c == channels - 1;
            out.pixels[at] = opacity ? (uint8_t)(in[at] >> 8) : reduce(image, how, in[at]);
        }
    prepare_finish(image, &out);
    return 0;
}

static int cmyk_to_rgb(struct image *image, struct error *e)
{
    struct image out;
    if (prepare_begin(&out, image, 3, e) != 0)
        return -1;
    size_t pixels = (size_t)image->width * (size_t)image->height;
    const uint8_t *in = image->pixels;
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            out.pixels[3 * i + c] = ink_to_light(in[4 * i + c], in[4 * i + 3]);
    prepare_finish(image, &out);
    return 0;
}

/* Removes the alpha channel: composites over white, or drops it. */
static int flatten(struct image *image, bool over, struct error *e)
{
    struct image out;
    int colors = image->channels - 1;
    if (prepare_begin(&out, image, colors, e) != 0)
        return -1;
    size_t pixels = (size_t)image->width * (size_t)image->height;
    const uint8_t *in = image->pixels;
    uint8_t *to = out.pixels;
    for (size_t i = 0; i < pixels; i++, in += colors + 1)
        for (int c = 0; c < colors; c++)
            *to++ = over ? over_white(in[c], in[colors]) : in[c];
    prepare_finish(image, &out);
    return 0;
}

int prepare_gray_to_rgb(struct image *image, struct error *e)
{
    struct image out;
    int channels = image->alpha ? 4 : 3;
    if (prepare_begin(&out, image, channels, e) != 0)
        return -1;
    keep_profile(&out, image);
    size_t pixels = (size_t)image->width * (size_t)image->height;
    const uint8_t *in = image->pixels;
    uint8_t *to = out.pixels;
    for (size_t i = 0; i < pixels; i++, in += image->channels, to += channels) {
        to[0] = to[1] = to[2] = in[0];
        if (channels == 4)
            to[3] = in[1];
    }
    prepare_finish(image, &out);
    return 0;
}

/* EXIF 2.3, 4.6.4 A: the visual position of row 0 and column 0 of the stored pixels. Output (x, y)
 * is the input pixel at origin + x * dx + y * dy. Works in tiles, which keeps transpositions in the
 * cache. */
static int apply_orientation(struct image *image, struct error *e)
{
    enum { TILE = 32 };
    ptrdiff_t w = image->width, h = image->height, right = w - 1, bottom = (h - 1) * w;
    const struct {
        ptrdiff_t origin, dx, dy;
    } maps[9] = {[1] = {0, 1, w},
                 [2] = {right, -1, w},
                 [3] = {bottom + right, -1, -w},
                 [4] = {bottom, 1, -w},
                 [5] = {0, w, 1},
                 [6] = {bottom, -w, 1},
                 [7] = {bottom + right, -w, -1},
                 [8] = {right, w, -1}};
    int o = image->orientation, c = image->channels;
    struct image swapped = *image, out;
    if (o >= 5) {
        swapped.width = image->height;
        swapped.height = image->width;
    }
    if (prepare_begin(&out, &swapped, c, e) != 0)
        return -1;
    for (int y0 = 0; y0 < out.height; y0 += TILE)
        for (int x0 = 0; x0 < out.width; x0 += TILE)
            for (int y = y0; y < out.height && y < y0 + TILE; y++) {
                uint8_t *to = out.pixels + ((size_t)y * (size_t)out.width + (size_t)x0) * (size_t)c;
                const uint8_t *from =
                    image->pixels + (maps[o].origin + x0 * maps[o].dx + y * maps[o].dy) * c;
                for (int x = x0; x < out.width && x < x0 + TILE; x++, from += maps[o].dx * c)
                    for (int i = 0; i < c; i++)
                        *to++ = from[i];
            }
    prepare_finish(image, &out);
    image->orientation = 1;
    return 0;
}

static int convert(struct image *image, enum prepare_color how, struct error *e)
{
    if (image->depth == 16 && to_8_bits(image, how, e) != 0)
        return -1;
    bool profile = how == PREPARE_DISPLAY && image->icc && image->color != IMAGE_LAB;
    if (profile && prepare_profile(image, e) != 0)
        return -1;
    if (image->color == IMAGE_CMYK && cmyk_to_rgb(image, e) != 0)
        return -1;
    if (image->color == IMAGE_LAB && prepare_lab(image, e) != 0)
        return -1;
    if (image->alpha && flatten(image, how == PREPARE_DISPLAY, e) != 0)
        return -1;
    bool turn = how == PREPARE_DISPLAY || image->format == IMAGE_TIFF; /* Pillow turns TIFFs */
    if (turn && image->orientation > 1 && apply_orientation(image, e) != 0)
        return -1;
    free(image->icc);
    image->icc = NULL;
    image->icc_size = 0;
    image->orientation = 1;
    return 0;
}

struct image_options prepare_options(enum prepare_color how, int64_t max_pixels,
                                     bool allow_truncated)
{
    return (struct image_options){
        .max_pixels = max_pixels,
        .allow_truncated = allow_truncated,
        .missing = how == PREPARE_DISPLAY ? 128 : 0,
        .clip_gray = how == PREPARE_PIL,
    };
}

void prepare_note_first(const struct image *image, const char *path)
{
    if (image->first_of_several)
        note("'%s': only the first %s is read", path,
             image->format == IMAGE_TIFF ? "page" : "frame");
}

int prepare_color(struct image *image, enum prepare_color how, struct error *e)
{
    errno = 0;
    return image_check_memory(convert(image, how, e), image, e);
}

/* torchvision's center_crop along one side: if the crop is larger, the odd pixel of padding goes
 * last. Python's round() rounds half to even, as rint does. */
static int crop_offset(int size, int crop)
{
    return crop > size ? -((crop - size) / 2) : (int)rint((size - crop) / 2.0);
}

static int resize_and_crop(struct image *out, const struct image *in, double resized_width,
                           double resized_height, int width, int height, struct error *e)
{
    if (resized_width > INT32_MAX / 2 || resized_height > INT32_MAX / 2)
        return error_set(e, "%dx%d pixels is too elongated", in->width, in->height);
    int rw = resized_width < 1 ? 1 : (int)resized_width;
    int rh = resized_height < 1 ? 1 : (int)resized_height;
    errno = 0;
    int status = prepare_resize(out, in, rw, rh, crop_offset(rw, width), crop_offset(rh, height),
                                width, height, e);
    status = image_check_memory(status, in, e);
    if (status != 0)
        image_release(out);
    return status;
}

int prepare_square(struct image *out, const struct image *in, int size, struct error *e)
{
    double w = in->width, h = in->height;
    if (w <= h)
        return resize_and_crop(out, in, size, size * h / w, size, size, e);
    return resize_and_crop(out, in, size * w / h, size, size, size, e);
}

int prepare_cover(struct image *out, const struct image *in, int width, int height, struct error *e)
{
    double factor = fmax((double)width / in->width, (double)height / in->height);
    return resize_and_crop(out, in, factor * in->width, factor * in->height, width, height, e);
}

int prepare_data(struct image *out, const struct image *in, int width, int height, struct error *e)
{
    return width == height ? prepare_square(out, in, width, e)
                           : prepare_cover(out, in, width, height, e);
}

void prepare_to_float(float *out, const struct image *in)
{
    float unit[256];
    for (int v = 0; v < 256; v++)
        unit[v] = (float)v / 255.0f;
    size_t pixels = (size_t)in->width * (size_t)in->height, step = (size_t)in->channels;
    for (size_t c = 0; c < 3; c++) {
        const uint8_t *from = in->pixels + (step == 1 ? 0 : c);
        for (size_t i = 0; i < pixels; i++)
            out[c * pixels + i] = unit[from[i * step]];
    }
}

void prepare_to_signed(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] * 2 - 1;
}

int prepare_file(float *x, const char *path, int width, int height, struct error *e)
{
    struct image image = {0}, fitted = {0};
    bool from_stdin = strcmp(path, "-") == 0;
    char *name = from_stdin ? xstrdup("standard input") : xasprintf("'%s'", path);
    int status =
        from_stdin ? image_read_stream(&image, STDIN_FILENO, 0, e) : image_read(&image, path, 0, e);
    if (status != 0) {
        error_prefix(e, "cannot read %s", name);
        free(name);
        return -1;
    }
    if (image.warning[0])
        warn("%s: %s", from_stdin ? name : path, image.warning);
    prepare_note_first(&image, from_stdin ? "standard input" : path);
    status = prepare_color(&image, PREPARE_DISPLAY, e);
    if (status == 0)
        status = prepare_cover(&fitted, &image, width, height, e);
    image_release(&image);
    if (status == 0) {
        prepare_to_float(x, &fitted);
        image_release(&fitted);
    } else {
        status = error_prefix(e, "cannot prepare %s", name);
    }
    free(name);
    return status;
}

bool image_from_signed(struct image *image, const float *x)
{
    size_t pixels = (size_t)image->width * (size_t)image->height;
    bool finite = true;
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) {
            float v = x[c * pixels + i];
            finite = finite && isfinite(v);
            v = v > -1 ? v < 1 ? v : 1 : -1;
            image->pixels[3 * i + c] = (uint8_t)floorf(255 * ((v + 1) / 2));
        }
    return finite;
}

/* Keys, "Cubic convolution interpolation", 1981, eqs. 4 and 15 with a = -0.75: weights of the four
 * neighbors of a point that lies t past the second. */
static void cubic_weights(float w[4], float t)
{
    const float a = -0.75f;
    for (int i = 0; i < 4; i++) {
        float x = i < 2 ? t + (float)(1 - i) : (float)(i - 1) - t;
        w[i] = i == 1 || i == 2 ? ((a + 2) * x - (a + 3)) * x * x + 1
                                : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
}

static void cubic_neighbors(int index[4], float w[4], int i, int in_size, int out_size)
{
    float scale = (float)in_size / (float)out_size;
    float at = scale * ((float)i + 0.5f) - 0.5f, floor_at = floorf(at);
    cubic_weights(w, at - floor_at);
    for (int j = 0; j < 4; j++) {
        int k = (int)floor_at - 1 + j;
        index[j] = k < 0 ? 0 : k >= in_size ? in_size - 1 : k;
    }
}

void prepare_bicubic(float *out, int out_height, int out_width, const float *in, int channels,
                     int in_height, int in_width)
{
    for (int y = 0; y < out_height; y++) {
        int rows[4];
        float wy[4];
        cubic_neighbors(rows, wy, y, in_height, out_height);
        for (int x = 0; x < out_width; x++) {
            int columns[4];
            float wx[4];
            cubic_neighbors(columns, wx, x, in_width, out_width);
            for (int c = 0; c < channels; c++) {
                float sum = 0;
                for (int j = 0; j < 4; j++) {
                    const float *row =
                        in + ((size_t)c * (size_t)in_height + (size_t)rows[j]) * (size_t)in_width;
                    float line = 0;
                    for (int i = 0; i < 4; i++)
                        line += wx[i] * row[columns[i]];
                    sum += wy[j] * line;
                }
                out[((size_t)c * (size_t)out_height + (size_t)y) * (size_t)out_width + (size_t)x] =
                    sum;
            }
        }
    }
}

void prepare_middle_square(float *square, int side, const float *image, int height, int width)
{
    int crop = height < width ? height : width;
    if (height == width) {
        prepare_bicubic(square, side, side, image, 3, height, width);
        return;
    }
    float *middle = xmalloc(3 * (size_t)crop * (size_t)crop * sizeof *middle), *row = middle;
    int top = (height - crop) / 2, left = (width - crop) / 2;
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < crop; y++, row += crop) {
            memcpy(row, image + ((size_t)c * height + top + y) * width + left,
                   (size_t)crop * sizeof *row);
        }
    }
    prepare_bicubic(square, side, side, middle, 3, crop, crop);
    free(middle);
}
