#ifndef CCLD_IMAGES_PREPARE_STEPS_H
#define CCLD_IMAGES_PREPARE_STEPS_H

#include "common/base/error.h"
#include "formats/images/image.h"

/* Steps of prepare_color. Private to common/images. */

/* Starts an 8-bit image that will replace *in: prepare_finish. */
int prepare_begin(struct image *out, const struct image *in, int channels, struct error *e);
void prepare_finish(struct image *image, struct image *out);
int prepare_gray_to_rgb(struct image *image, struct error *e);
/* From the image's profile, if lcms2 accepts it and it matches the pixels, to sRGB. */
int prepare_profile(struct image *image, struct error *e);
/* An image in L*a*b* to sRGB. */
int prepare_lab(struct image *image, struct error *e);

#endif
