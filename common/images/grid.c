#include "common/images/grid.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "common/images/labels.h"
#include "common/images/prepare.h"

#define CHECKED_EVERY ((size_t)16 << 20) /* bytes of images */

/* Whether the memory suffices for `more` images and the sheet of all, which take as much again. */
static int check_memory(const struct grid *g, int more, struct error *e)
{
    struct memory_limit limit = memory_limit_left(1, "");
    int64_t image = (int64_t)image_bytes(&g->images[0]), all = g->count + more;
    char what[64];
    snprintf(what, sizeof what, "a grid of %" PRId64 " image%s", all, plural(all));
    if (memory_limit_check(&limit, what, memory_needed((all + more) * image), e) == 0)
        return 0;
    struct error before = *e;
    int64_t fit = (limit.bytes + g->count * image - memory_needed(0)) / (2 * image);
    return error_set(e, "%s; about %" PRId64 " of this size would fit", before.text,
                     fit > 0 ? fit : 0);
}

/* Scales the image, in proportion, to the size of the first one, or less on one side. */
static int scale_to_fit(const struct grid *g, struct image *image, struct error *e)
{
    int width = g->images[0].width, height = g->images[0].height;
    struct image scaled = {0};
    if (prepare_color(image, PREPARE_DISPLAY, e) != 0)
        return -1;
    if ((int64_t)image->width * height > (int64_t)image->height * width)
        height = (int)((2 * (int64_t)image->height * width + image->width) / (2 * image->width));
    else
        width = (int)((2 * (int64_t)image->width * height + image->height) / (2 * image->height));
    width = width < 1 ? 1 : width;
    height = height < 1 ? 1 : height;
    if (prepare_resize(&scaled, image, width, height, 0, 0, width, height, e) != 0)
        return -1;
    image_release(image);
    *image = scaled;
    return 0;
}

int grid_add(struct grid *g, struct image *image, struct image_remarks *remarks, const char *name,
             struct error *e)
{
    int status = 0;
    bool differs =
        g->count && (image->width != g->images[0].width || image->height != g->images[0].height);
    if (g->count == GRID_MAX_IMAGES)
        status = error_set(e, "more than %d images", GRID_MAX_IMAGES);
    else if (differs && g->fit && scale_to_fit(g, image, e) != 0)
        status = error_prefix(e, "cannot scale %s", name);
    else if (differs && !g->fit)
        status = error_set(e, "%s is %dx%d pixels, the first image is %dx%d", name, image->width,
                           image->height, g->images[0].width, g->images[0].height);
    if (status != 0) {
        image_release(image);
        image_remarks_release(remarks);
        return status;
    }
    if (g->count == g->capacity) {
        g->capacity = g->capacity ? 2 * g->capacity : 16;
        g->images = xrealloc(g->images, (size_t)g->capacity * sizeof *g->images);
        g->remarks = xrealloc(g->remarks, (size_t)g->capacity * sizeof *g->remarks);
    }
    size_t bytes = image_bytes(image);
    g->images[g->count] = *image;
    g->remarks[g->count++] = *remarks;
    bool due =
        (size_t)g->count * bytes / CHECKED_EVERY > (size_t)(g->count - 1) * bytes / CHECKED_EVERY;
    return due && check_memory(g, 1, e) != 0 ? error_prefix(e, "not enough memory") : 0;
}

void grid_release(struct grid *g)
{
    for (int i = 0; i < g->count; i++) {
        image_release(&g->images[i]);
        image_remarks_release(&g->remarks[i]);
    }
    free(g->images);
    free(g->remarks);
    *g = (struct grid){0};
}

int grid_add_all(struct grid *g, struct image_input *source, struct error *e)
{
    struct image image;
    struct image_remarks remarks;
    int got;
    while ((got = image_input_next(source, &image, &remarks, e)) > 0)
        if (grid_add(g, &image, &remarks, source->name, e) != 0)
            return -1;
    return got;
}

int grid_default_columns(int count)
{
    int columns = 1;
    while ((int64_t)columns * columns < count)
        columns++;
    return columns;
}

static unsigned sample_at(const struct image *image, size_t index)
{
    return image->depth == 16 ? ((const uint16_t *)image->pixels)[index] : image->pixels[index];
}

/* Copies a row of an image to the sheet, which has at least the image's colors, alpha and depth. */
static void draw_row(struct image *sheet, size_t at, const struct image *in, size_t from)
{
    bool in_alpha = in->channels % 2 == 0, alpha = sheet->channels % 2 == 0;
    int in_colors = in->channels - in_alpha, colors = sheet->channels - alpha;
    unsigned scale = sheet->depth > in->depth ? 257 : 1, opaque = sheet->depth == 16 ? 65535 : 255;
    for (int x = 0; x < in->width; x++, from += (size_t)in->channels) {
        for (int c = 0; c < sheet->channels; c++, at++) {
            unsigned v;
            if (c < colors)
                v = sample_at(in, from + (size_t)(in_colors == 1 ? 0 : c)) * scale;
            else
                v = in_alpha ? sample_at(in, from + (size_t)in_colors) * scale : opaque;
            if (sheet->depth == 16)
                ((uint16_t *)sheet->pixels)[at] = (uint16_t)v;
            else
                sheet->pixels[at] = (uint8_t)v;
        }
    }
}

/* Where everything lies on the sheet, in pixels. */
struct layout {
    int columns, rows, padding, colors, depth;
    bool alpha;
    int64_t cell_width, cell_height; /* of an image */
    int64_t width, height;
    int64_t *tops; /* [rows] */
    struct labels labels;
};

/* What the sheet must hold of the images' colors. */
static void find_colors(struct layout *l, const struct grid *g)
{
    l->colors = 1;
    l->depth = 8;
    for (int i = 0; i < g->count; i++) {
        const struct image *in = &g->images[i];
        CHECK(in->color != IMAGE_CMYK && (in->depth == 8 || in->depth == 16));
        if (in->channels >= 3)
            l->colors = 3;
        if (in->depth == 16)
            l->depth = 16;
        l->alpha |= in->channels % 2 == 0;
    }
}

static void lay_out(struct layout *l, const struct grid *g, int columns, int padding)
{
    *l = (struct layout){.columns = columns < g->count ? columns : g->count, .padding = padding};
    find_colors(l, g);
    l->rows = (g->count + l->columns - 1) / l->columns;
    l->cell_width = g->images[0].width;
    l->cell_height = g->images[0].height;
    l->width = l->columns * (l->cell_width + padding) + padding;
    l->height = padding;
    l->tops = xmalloc((size_t)l->rows * sizeof *l->tops);
    if (g->labels && l->width <= INT32_MAX)
        labels_plan(&l->labels, g, l->columns, (int)l->cell_width, padding);
    for (int i = 0; i < l->rows; i++) {
        l->tops[i] = l->height;
        l->height += l->cell_height + padding + (l->labels.heights ? l->labels.heights[i] : 0);
    }
}

static void layout_release(struct layout *l)
{
    labels_release(&l->labels);
    free(l->tops);
}

static void draw_images(struct image *sheet, const struct grid *g, const struct layout *l)
{
    for (int i = 0; i < g->count; i++) {
        const struct image *in = &g->images[i];
        int64_t left = i % l->columns * (l->cell_width + l->padding) + l->padding +
                       (l->cell_width - in->width) / 2;
        int64_t top = l->tops[i / l->columns] + (l->cell_height - in->height) / 2;
        for (int y = 0; y < in->height; y++)
            draw_row(sheet, (size_t)((top + y) * l->width + left) * (size_t)sheet->channels, in,
                     (size_t)y * (size_t)in->width * (size_t)in->channels);
    }
    for (int i = 0; i < l->rows && l->labels.heights; i++)
        labels_draw(&l->labels, i, sheet, l->padding, (int)(l->tops[i] + l->cell_height),
                    (int)l->cell_width, l->padding);
}

int grid_draw(struct image *sheet, const struct grid *g, int columns, int padding, struct error *e)
{
    struct layout l;
    CHECK(g->count > 0 && columns > 0 && padding >= 0);
    lay_out(&l, g, columns, padding);
    int status = 0;
    if (l.width > INT32_MAX || l.height > INT32_MAX)
        status = error_set(e, "a grid of %" PRId64 "x%" PRId64 " pixels is too large for PNG",
                           l.width, l.height);
    else if (check_memory(g, 0, e) != 0)
        status = error_prefix(e, "not enough memory");
    else
        status = image_new(sheet, (int)l.width, (int)l.height, l.colors + l.alpha, l.depth, e);
    if (status == 0)
        draw_images(sheet, g, &l);
    layout_release(&l);
    return status;
}
