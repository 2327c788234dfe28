#ifndef CCLD_IMAGES_PREPARE_H
#define CCLD_IMAGES_PREPARE_H

#include <stdint.h>

#include "common/base/error.h"
#include "formats/images/image.h"

/* From a decoded image to what the networks see, with the numbers of the reference (Pillow and
 * torchvision). In order: prep_color, then prep_square or prep_cover, then prep_to_float; CLOOB in
 * training then takes prep_bicubic of that, and prep_cloob_normalize in every case.
 * Functions are safe to call from several threads and use none of their own. */

enum prep_color {
    /* What a person sees: EXIF orientation applied, ICC profile to sRGB (perceptual intent), 16
     * bits scaled to 8 and rounded down, opacity over white. A profile that lcms2 refuses or that
     * does not suit the pixels is passed over. */
    PREP_DISPLAY,
    /* What Pillow's Image.convert('RGB') gives: no orientation, no profile, alpha dropped, 16-bit
     * gray clipped to 255, other 16-bit samples cut to their high byte. */
    PREP_PIL,
};

/* Makes *image 8-bit gray (one channel, standing for three equal ones) or 8-bit RGB, in place. */
int prep_color(struct image *image, enum prep_color how, struct error *e);

/* These three take what prep_color left and fill *out (release it) with an 8-bit image of the same
 * number of channels. Lanczos as Pillow has it: antialiased, support 3, coefficients in 22-bit
 * fixed point, the horizontal pass first with an 8-bit result between. (Pillow 13 and later does
 * the passes in the other order for some tall images; the reference's had not that.) */

/* Resized to resized_width x resized_height, of which only the window at left, top is computed;
 * where the window reaches outside (left or top negative, or too wide) there is black. */
int prep_resize(struct image *out, const struct image *in, int resized_width, int resized_height,
                int left, int top, int width, int height, struct error *e);
/* The training path, torchvision's Resize(size) and CenterCrop(size): short side to size, long side
 * to int(size * long / short), then the middle. */
int prep_square(struct image *out, const struct image *in, int size, struct error *e);
/* Image prompts and --init: the smallest size of the same proportions that covers width x height,
 * then the middle. */
int prep_cover(struct image *out, const struct image *in, int width, int height, struct error *e);

/* 8-bit gray or RGB to planar RGB [3, height, width] in [0, 1]: v / 255. */
void prep_to_float(float *out, const struct image *in);
/* [0, 1] to [-1, 1], x * 2 - 1, what the autoencoder sees; in place. */
void prep_to_signed(float *x, size_t n);

/* Bicubic with a = -0.75, not antialiased, align_corners false, borders repeated: torch's
 * F.interpolate(mode='bicubic'). out is [channels, out_height, out_width], in likewise. */
void prep_bicubic(float *out, int out_height, int out_width, const float *in, int channels,
                  int in_height, int in_width);
/* (x - mean) / std of CLIP's and CLOOB's image towers on [3, pixels], in place. */
void prep_cloob_normalize(float *x, size_t pixels);

#endif
