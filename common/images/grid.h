#ifndef CCLD_IMAGES_GRID_H
#define CCLD_IMAGES_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/images/image_input.h"

/* A grid of images of equal size, row by row, with their metadata. */
struct grid {
    bool fit;    /* scales images of another size than the first one's to fit, in proportion */
    bool labels; /* draws prompts under the rows (common/images/labels.h) */
    struct image *images;
    struct image_remarks *remarks; /* one per image */
    int count, capacity;
};

#define GRID_MAX_IMAGES 1000000

/* Appends an image; start with a zeroed struct grid, but for fit and labels. Takes ownership of
 * *image and *remarks even on failure. Fails if the size differs from the first image's, unless it
 * is to fit. name is for messages, e.g. "image 3 of
 * 'x.ppm'". */
int grid_add(struct grid *g, struct image *image, struct image_remarks *remarks, const char *name,
             struct error *e);
void grid_release(struct grid *g);

/* Appends all images of a source. */
int grid_add_all(struct grid *g, struct image_input *source, struct error *e);

/* The smallest number of columns with no more rows than columns: ceil(sqrt(count)). */
int grid_default_columns(int count);

/* Draws into *sheet, which the caller releases: up to `columns` images per row, `padding` pixels
 * around each. The sheet is RGB if any image is, 16-bit if any is, and has alpha if any has. The
 * background is black, or transparent if the sheet has alpha. */
int grid_draw(struct image *sheet, const struct grid *g, int columns, int padding, struct error *e);

#endif
