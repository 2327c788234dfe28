#ifndef CCLD_FORMATS_IMAGES_IMAGE_BUILD_H
#define CCLD_FORMATS_IMAGES_IMAGE_BUILD_H

#include "formats/images/image.h"

/* What decoders need to fill a struct image. Private to formats/images. */

/* Bytes of a file or of pixels for which memory may well be lacking; for less, the system is to
 * blame. */
#define IMAGE_LARGE (INT64_C(1) << 30)
/* Fails if a dimension is not positive or width * height exceeds max_pixels (0: the default). */
int image_check_pixels(int64_t width, int64_t height, int64_t max_pixels, struct error *e);
/* Like image_new, but leaves the pixels uninitialized (the padding after them is zeroed). */
int image_allocate(struct image *image, int width, int height, int channels, int depth,
                   struct error *e);
/* The orientation, 1 to 8, in a TIFF-structured EXIF block, with or without a leading "Exif\0\0"; 1
 * if the block has none. */
int image_exif_orientation(const uint8_t *exif, size_t size);
/* Copies the profile; later calls are ignored. */
int image_set_icc(struct image *image, const void *icc, size_t size, struct error *e);
/* Keeps the first warning only. */
void image_set_warning(struct image *image, const char *text);

#endif
