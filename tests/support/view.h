#ifndef CCLD_TESTS_VIEW_H
#define CCLD_TESTS_VIEW_H

#include "formats/images/image.h"
#include "tests/support/oklab.h"

/* What those see of an image that judge it: at most VIEW_SIDE pixels wide and high, without alpha.
 */
#define VIEW_SIDE   64
#define VIEW_PIXELS (VIEW_SIDE * VIEW_SIDE)

/* Fills rows of *width pixels without gaps. Each pixel is the mean of the image's pixels it covers.
 * The image may be of any kind but CMYK. */
void view_pixels(struct oklab pixels[VIEW_PIXELS], int *width, int *height,
                 const struct image *image);

#endif
