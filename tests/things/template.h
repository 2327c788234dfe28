#ifndef CCLD_TESTS_THINGS_TEMPLATE_H
#define CCLD_TESTS_THINGS_TEMPLATE_H

#include <stdbool.h>

#include "tests/support/view.h"
#include "tests/things/sprites.h"

/* A thing as it would look in a view, for comparison with it. */
struct template
{
    int width, height;
    float area;      /* the sum of cover */
    float *cover;    /* [height, width], 0 to 1 */
    float *color[3]; /* Oklab times cover; in the block of cover */
};

/* extent: the longer side of the bitmap in pixels; angle in radians. */
void template_init(struct template *t, const struct sprite *s, float extent, bool mirrored,
                   float angle);
void template_free(struct template *t);

/* A view or a smaller version of it, in planes. */
struct field {
    int side;
    float behind[3][VIEW_PIXELS]; /* the background, Oklab */
    float away[3][VIEW_PIXELS];   /* the image minus it */
};

/* How much of the squared differences from the background go away if the template, its center at
 * (x, y), lies over it. What is outside the field is left out. */
float template_gain(const struct template *t, const struct field *f, int x, int y);

/* Puts the template over the field's background. */
void template_put(const struct template *t, struct field *f, int x, int y);

#endif
