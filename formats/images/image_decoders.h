#ifndef CCLD_FORMATS_IMAGES_IMAGE_DECODERS_H
#define CCLD_FORMATS_IMAGES_IMAGE_DECODERS_H

#include "formats/images/image.h"

/* One decoder per format. Private to formats/images. Each fills a zeroed *image; if one fails, the
 * caller releases whatever the image holds by then. */
int image_jpeg_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e);
int image_png_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e);
int image_webp_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e);
int image_bmp_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e);
/* Each only in builds with its library, which WITH_GIF and so on tell. */
int image_gif_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e);
int image_tiff_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e);
int image_heif_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e);
int image_avif_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e);
int image_jxl_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e);

/* Reads one PNM from the stream's current position. Each header comment, without its `#` and line
 * end, is passed to `comment` (may be NULL). */
typedef void pnm_comment(void *arg, const char *text);
int image_pnm_read(struct image *image, FILE *f, int64_t max_pixels, pnm_comment *comment,
                   void *arg, struct error *e);

#endif
