#ifndef CCLD_IMAGES_LABELS_H
#define CCLD_IMAGES_LABELS_H

#include "common/images/grid.h"

/* Prompts under the rows of a grid: neighbors in a row that have the same prompt share a label, and
 * whole rows with the same prompt one under the last of them. White on black; a long prompt is
 * broken between words and cut after a few lines. */

struct label {
    int row, first, count;  /* of the cells above it */
    uint32_t *text;         /* code points, malloc'ed */
    int begins[4], ends[4]; /* of its lines */
    int lines;
};

struct labels {
    struct label *items;
    int count;
    int scale;    /* pixels per dot of the font */
    int *heights; /* [rows] of the space under each row, pixels */
};

/* cell_width: of an image, in pixels, `padding` of them between two. */
void labels_plan(struct labels *l, const struct grid *g, int columns, int cell_width, int padding);
/* Draws those of a row into the space whose top left is at (left, top). */
void labels_draw(const struct labels *l, int row, struct image *sheet, int left, int top,
                 int cell_width, int padding);
void labels_release(struct labels *l);

#endif
