#ifndef CCLD_IMAGES_GRID_H
#define CCLD_IMAGES_GRID_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "formats/images/image.h"
#include "formats/images/image_stream.h"

/* A sheet of equally large images, row by row, and what is known about them as text. */
struct grid {
    struct image *images;
    struct image_remarks *remarks; /* of each image */
    int count, capacity;
};

#define GRID_MAX_IMAGES 1000000

/* Takes over *image and *remarks, also when it fails: when the size differs from the first one's.
 * name is for messages, e.g. "image 3 of 'x.ppm'". Start with a zeroed struct grid. */
int grid_add(struct grid *g, struct image *image, struct image_remarks *remarks, const char *name,
             struct error *e);
void grid_release(struct grid *g);

/* All images of a netpbm stream up to its end. source is how messages call the stream: "standard
 * input" or "'x.ppm'". */
int grid_add_stream(struct grid *g, FILE *f, const char *source, int64_t max_pixels,
                    struct error *e);
/* A file of any readable kind: all images of a binary PGM, PPM or PAM as they are, of others the
 * image; where a file asks for colour work (orientation, an ICC profile, CMYK) it becomes 8-bit as
 * a person sees it, alpha over white. */
int grid_add_file(struct grid *g, const char *path, int64_t max_pixels, struct error *e);

/* The smallest number of columns that makes the sheet no higher than wide, in cells:
 * ceil(sqrt(count)). */
int grid_default_columns(int count);

/* Fills *sheet (release it): at most `columns` images in a row, `padding` pixels around each. It is
 * RGB when any image is, 16-bit when any is, and has alpha when any has. What no image covers is
 * black, with alpha transparent. */
int grid_draw(struct image *sheet, const struct grid *g, int columns, int padding, struct error *e);

/* The text that web UIs read from a PNG's chunk `parameters`: the prompt, then one line of
 * "Steps: 50, Sampler: PLMS, CFG scale: 3, Seed: 0, Size: 256x256, Model: name". Prompts that
 * differ stand one a line; other values that differ are listed in quotes, each once. Values with a
 * comma, colon or quote are written as JSON strings, as those programs do. malloc'ed; NULL when
 * nothing is known. */
char *grid_parameters(const struct grid *g);

#endif
