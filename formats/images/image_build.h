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
/* The orientation, 1 to 8, in a TIFF-structured EXIF block, which "Exif\0\0" may precede, even
 * twice; 1 if its value is none of these; 0 if the block has none. */
int image_exif_orientation(const uint8_t *exif, size_t size);
/* The orientation in an XMP packet, as Pillow finds it: tiff:Orientation as an attribute or
 * element; 0 if it has none. */
int image_xmp_orientation(const uint8_t *xmp, size_t size);
/* The first of both that is not 0; 1 if both are. EXIF has precedence. */
int image_choose_orientation(int exif, int xmp);
/* The orientation in a PNG, of which only complete chunks are looked at: in eXIf, else in
 * ImageMagick's text "Raw profile type exif", else in XMP; 1 if it has none. Compressed texts are
 * expanded to a megabyte at most. */
int image_png_orientation(const uint8_t *data, size_t size);
/* The first text of a PNG with this keyword, of undamaged chunks, as UTF-8; malloc'ed, NULL: none.
 * At most a megabyte of it. */
char *image_png_text(const uint8_t *data, size_t size, const char *keyword);
/* Fills the pixels with the color of missing ones, opaque. */
void image_fill(struct image *image, uint8_t value);
/* Copies the profile; later calls are ignored. */
int image_set_icc(struct image *image, const void *icc, size_t size, struct error *e);
/* Keeps the first warning only. */
void image_set_warning(struct image *image, const char *text);

#endif
