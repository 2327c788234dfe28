#ifndef CCLD_TESTS_THINGS_BACKDROP_H
#define CCLD_TESTS_THINGS_BACKDROP_H

#include "tests/support/oklab.h"
#include "tests/support/view.h"

/* Which background the border of a view of VIEW_SIDE x VIEW_SIDE pixels shows: an index into
 * sceneries, or -1 if none fits. */
int backdrop_find(const struct oklab pixels[VIEW_PIXELS]);

/* Fills in what would be behind things: for each pixel, the tone of the border at about its height
 * that is most like it. Tones that belong to no background but to a thing that reaches the border
 * are left out if `scenery` is known. */
void backdrop_fill(struct oklab behind[VIEW_PIXELS], const struct oklab pixels[VIEW_PIXELS],
                   int scenery);

#endif
