#ifndef CCLD_FORMATS_IMAGES_IMAGE_INTERNAL_H
#define CCLD_FORMATS_IMAGES_IMAGE_INTERNAL_H

#include "formats/images/image.h"

/* Shared by the readers of image formats; nothing outside formats/image*.c includes this. Each
 * reader fills a zeroed *image or returns -1, in which case its caller releases what is there. */
int image_jpeg_decode(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                      struct error *e);
int image_png_decode(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                     struct error *e);
int image_webp_decode(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                      struct error *e);

/* Reads one PNM from its current position. Comments of the header, without `#` and the end of the
 * line, go to `comment` (which may be NULL). */
typedef void pnm_comment(void *arg, const char *text);
int image_pnm_read(struct image *image, FILE *f, int64_t max_pixels, pnm_comment *comment,
                   void *arg, struct error *e);

int image_check_pixels(int64_t width, int64_t height, int64_t max_pixels, struct error *e);
/* image_new without zeroing the pixels (the padding behind them is zeroed). */
int image_allocate(struct image *image, int width, int height, int channels, int depth,
                   struct error *e);
/* Orientation 1 to 8 of a TIFF-structured EXIF block, with or without "Exif\0\0" before it; 1 when
 * it says none. */
int image_exif_orientation(const uint8_t *exif, size_t size);
int image_set_icc(struct image *image, const void *icc, size_t size, struct error *e);
void image_set_warning(struct image *image, const char *text); /* keeps the first */

#endif
