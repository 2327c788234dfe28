#ifndef CCLD_TESTS_FIDELITY_H
#define CCLD_TESTS_FIDELITY_H

#include <stdbool.h>

#include "formats/images/image.h"
#include "tests/support/shapes.h"

/* Looks at a picture and tells the shape and colour of the one object in it. Knows nothing of how
 * the small world's pictures are drawn but the names and the palette: the background is what the
 * border shows, the object what differs from it, its colour the palette's nearest, its shape the
 * best overlap with plain formulas of the shapes. */

struct sighting {
    /* One thing on a background: NULL, or why it is not: "nothing there". */
    const char *trouble;
    /* SHAPE_COUNT, COLOR_COUNT: none of ours, and always so with trouble. */
    enum shape shape;
    enum color color;
    float overlap;  /* intersection over union with the best formula, 0 to 1 */
    float distance; /* oklab_distance to the palette's nearest */
};

/* Any size and kind of image but CMYK. */
void fidelity_look(struct sighting *s, const struct image *image);

/* Finds the one `COLOUR SHAPE` in a prompt. False when there is none, or more than one. */
bool fidelity_parse(const char *prompt, enum shape *shape, enum color *color);

#endif
