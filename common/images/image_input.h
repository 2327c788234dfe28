#ifndef CCLD_IMAGES_IMAGE_INPUT_H
#define CCLD_IMAGES_IMAGE_INPUT_H

#include <stdbool.h>

#include "common/base/error.h"
#include "formats/images/image_stream.h"

/* The images of files, one after another, or of the stream on standard input. A binary PGM, PPM or
 * PAM file is a stream of any number of images, other formats hold one. An image that needs color
 * conversion (orientation, an ICC profile, CMYK) becomes 8-bit as a person sees it, alpha
 * composited over white; others stay as they are. With as_stored, all do. A PNG file of ccld-plms
 * has the remarks that it would have in a stream (common/images/grid_parameters.h). */
struct image_input {
    char *const *paths; /* borrowed; "-" is standard input */
    int count, next;
    int64_t max_pixels;
    bool as_stored;             /* may be set after image_input_init */
    struct image_stream stream; /* its file is NULL while none is open */
    const char *path;           /* of the last image; NULL: standard input */
    char name[320];             /* of the last image, e.g. "image 3 of 'x.ppm'" or "'x.png'" */
};

/* count 0: standard input alone. max_pixels: see image_read. */
void image_input_init(struct image_input *s, char *const *paths, int count, int64_t max_pixels);
void image_input_release(struct image_input *s);
/* Returns 1 and fills *image and *remarks, which the caller releases; 0 after the last image; -1
 * with a reason that names the file and, in a stream, the image. */
int image_input_next(struct image_input *s, struct image *image, struct image_remarks *remarks,
                     struct error *e);

#endif
