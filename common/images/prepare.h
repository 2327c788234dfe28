#ifndef CCLD_IMAGES_PREPARE_H
#define CCLD_IMAGES_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/images/image.h"

/* From a decoded image to network inputs, with the same numbers as the reference (Pillow and
 * torchvision): prepare_color, then prepare_square or prepare_cover, then prepare_to_float. When
 * encoding a data set, CLOOB's input is that image resized by prepare_middle_square.
 * All functions are thread-safe and single-threaded. Those that can fail return -1 or, if memory
 * ran out, READ_SYSTEM_FAILED (common/base/files.h). */

enum prepare_color {
    /* What a person sees: EXIF orientation applied, ICC profile converted to sRGB (perceptual
     * intent), 16 bits scaled to 8 and rounded down, alpha composited over white. A profile that
     * lcms2 rejects or that does not match the pixels is ignored. */
    PREPARE_DISPLAY,
    /* What Pillow's Image.convert('RGB') returns: no orientation except in TIFF, no profile, alpha
     * dropped, 16-bit gray clipped to 255, other 16-bit samples reduced to their high byte. */
    PREPARE_PIL,
};

/* For image_read_with: missing pixels are gray, or black as in Pillow, which also clips unusual
 * kinds of gray. */
struct image_options prepare_options(enum prepare_color how, int64_t max_pixels,
                                     bool allow_truncated);
/* With -v, says that the file has further frames or pages, if so. */
void prepare_note_first(const struct image *image, const char *path);

/* Converts *image in place to 8-bit gray (one channel that stands for three equal ones) or 8-bit
 * RGB. */
int prepare_color(struct image *image, enum prepare_color how, struct error *e);

/* The next three take the output of prepare_color and fill *out, which the caller releases, with an
 * 8-bit image of the same number of channels. They use Pillow's Lanczos filter: antialiased,
 * support 3, coefficients in 22-bit fixed point, horizontal pass first, with an 8-bit intermediate
 * result. (Pillow 13 and later swaps the passes for some tall images; the reference used an earlier
 * version.) */

/* Resizes to resized_width x resized_height and computes only the window of width x height at left,
 * top. Where the window extends beyond the resized image, the output is black. */
int prepare_resize(struct image *out, const struct image *in, int resized_width, int resized_height,
                   int left, int top, int width, int height, struct error *e);
/* As torchvision's Resize(size) and CenterCrop(size), for training data: the short side becomes
 * size, the long side int(size * long / short); then the center is cropped. */
int prepare_square(struct image *out, const struct image *in, int size, struct error *e);
/* For image prompts, --init and sizes that are not square: resizes to the smallest size of the same
 * aspect ratio that covers width x height, then crops the center. */
int prepare_cover(struct image *out, const struct image *in, int width, int height,
                  struct error *e);
/* As data sets are prepared: prepare_square if the size is square, else prepare_cover. */
int prepare_data(struct image *out, const struct image *in, int width, int height, struct error *e);

/* 8-bit gray or RGB to planar RGB [3, height, width] in [0, 1]: v / 255. */
void prepare_to_float(float *out, const struct image *in);
/* Maps n values from [0, 1] to [-1, 1], the autoencoder's input range, in place: x * 2 - 1. */
void prepare_to_signed(float *x, size_t n);
/* Reads the file at path (-: standard input) in the colors a person sees, covers width x height and
 * fills x [3, height, width] in [0, 1]. Prints the decoder's warning, if any; errors name the file.
 */
int prepare_file(float *x, const char *path, int width, int height, struct error *e);

/* Bicubic interpolation with a = -0.75, not antialiased, align_corners false, borders repeated:
 * torch's F.interpolate(mode='bicubic'). out is [channels, out_height, out_width], in is
 * [channels, in_height, in_width]. */
void prepare_bicubic(float *out, int out_height, int out_width, const float *in, int channels,
                     int in_height, int in_width);
/* Resizes the middle square of an image [3, height, width] so to square [3, side, side]: CLOOB's
 * input when a data set is encoded. */
void prepare_middle_square(float *square, int side, const float *image, int height, int width);

/* The way back: planar RGB x [3, height, width] in [-1, 1], the autoencoder's output, to the pixels
 * of *image, an 8-bit RGB image that image_new has made: floor(255 * (clamp(x, -1, 1) + 1) / 2).
 * Returns false if any element is not finite; NaN becomes 0. */
bool image_from_signed(struct image *image, const float *x);

#endif
