#ifndef CCLD_TESTS_FIDELITY_H
#define CCLD_TESTS_FIDELITY_H

#include <stdbool.h>

#include "formats/images/image.h"
#include "tests/support/shapes.h"

/* Recognizes the shape and color of the single object in an image. Independent of how shapes_draw
 * draws, except for the names and the palette: the background is what the border shows, the object
 * is what differs from it, its color is the palette's nearest, and its shape is the one whose
 * formula overlaps it best. */

struct sighting {
    /* NULL, or why this is not a single object on a background, for example "no object". */
    const char *trouble;
    /* SHAPE_COUNT and COLOR_COUNT if none matches, and always if there is trouble. */
    enum shape shape;
    enum color color;
    float overlap;  /* intersection over union with the best formula, 0 to 1 */
    float distance; /* oklab_distance to the palette's nearest color */
};

/* The image may have any size and any kind except CMYK. */
void fidelity_look(struct sighting *s, const struct image *image);

/* Finds the single `COLOR SHAPE` in a prompt. False if it has none or several. */
bool fidelity_parse(const char *prompt, enum shape *shape, enum color *color);

#endif
