#ifndef CCLD_FORMATS_IMAGES_TIFF_SAMPLES_H
#define CCLD_FORMATS_IMAGES_TIFF_SAMPLES_H

#include "formats/images/image.h"

/* From decoded rows of a TIFF to an image's pixels. Private to formats/images. */

struct tiff_samples {
    unsigned int bits, count; /* of a sample; samples per pixel */
    bool is_float;            /* 32 bits; only with clip */
    bool planes;      /* each row has one sample of all its pixels, else all samples of each */
    bool invert;      /* 0 is white */
    bool clip;        /* gray, signed or of 32 bits, is clipped to 0 to 255 */
    bool lab;         /* the second and third sample are signed */
    uint16_t *map[3]; /* a palette's, or NULL */
};

/* Puts `count` pixels of a decoded row at (x, y). In planes, `plane` is the sample that the row
 * has. */
void tiff_samples_unpack(struct image *image, const struct tiff_samples *s, const uint8_t *row,
                         size_t x, size_t y, size_t count, size_t plane);
/* Divides colors by the opacity that has multiplied them (associated alpha). Of 16 bits, the high
 * ones are used, as in Pillow. */
void tiff_unpremultiply(struct image *image);

#endif
