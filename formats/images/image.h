#ifndef CCLD_FORMATS_IMAGES_IMAGE_H
#define CCLD_FORMATS_IMAGES_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

/* Still images: JPEG, PNG, WebP and the netpbm family (PBM, PGM, PPM, PAM; plain and raw). Which
 * one it is is told by the first bytes, never by the name. No colour work is done here: pixels are
 * what the file says, and what a consumer needs to interpret them stands beside them (see
 * common/images/prepare.h).
 *
 * All functions may be called from several threads at once, on different images. */

enum image_format { IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_PNM };
enum image_color { IMAGE_GRAY, IMAGE_RGB, IMAGE_CMYK };

struct image {
    int width, height; /* as stored: before orientation */
    int channels;      /* 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha or CMYK */
    int depth;         /* bits of a sample here: 8, or 16 in the machine's byte order */
    enum image_color color;
    bool alpha; /* the last channel is opacity, not premultiplied */
    /* The opacity is made from one transparent colour or a palette's opacities (PNG tRNS): in the
     * file a pixel has no alpha of its own. */
    bool alpha_from_key;
    /* Largest sample in the file: 255 or 65535, or the header's maxval of a PNM. Samples in
     * `pixels` are always scaled to the full range of `depth`. */
    int source_maxval;
    int orientation; /* EXIF, 1 (upright) to 8; 1 when the file does not say */
    enum image_format format;
    uint8_t *icc; /* ICC profile, or NULL */
    size_t icc_size;
    /* [height, width, channels] without gaps between rows. CMYK: 255 is full ink. IMAGE_PADDING
     * zero bytes stand behind the last row, for vector loads. */
    uint8_t *pixels;
    /* What the decoder complained about in a file that it nevertheless decoded to the last pixel,
     * or
     * "": damaged data that a viewer would show, too. Worth a warning, not a refusal. */
    char warning[120];
};

#define IMAGE_PADDING            64
#define IMAGE_DEFAULT_MAX_PIXELS 200000000

/* Reads one image. max_pixels bounds width * height and is checked against the header, before
 * anything of that size is allocated or decoded; 0: IMAGE_DEFAULT_MAX_PIXELS.
 * A file that ends too early is an error, whatever of it could be shown. An animated WebP is
 * refused; of an animated PNG, the default image is read; of concatenated PNMs, the first. Returns
 * 0 and fills *image, which the caller releases; or -1, a reason and nothing to release. */
int image_read(struct image *image, const char *path, int64_t max_pixels, struct error *e);
int image_decode(struct image *image, const void *data, size_t size, int64_t max_pixels,
                 struct error *e);
/* Frees what *image owns and zeroes it; fine on a zeroed one. */
void image_release(struct image *image);

/* Fills *image with zeroed pixels of this size. channels 1 to 4 mean gray, gray and alpha, RGB, RGB
 * and alpha; depth is 8 or 16. */
int image_new(struct image *image, int width, int height, int channels, int depth, struct error *e);
size_t image_bytes(const struct image *image); /* of the pixels, without the padding */

/* A remark that travels with an image: UTF-8, zero-terminated. */
struct image_text {
    char *key, *value;
};

/* Writes a PNG: gray or RGB, with or without alpha, 8 or 16 bits; no profile. Each text becomes a
 * tEXt chunk when its value is Latin-1, else iTXt; bytes that are no UTF-8 become U+FFFD. Keys are
 * 1 to 79 printable ASCII characters. level: zlib's, 0 to 9, or -1 for the default. The stream is
 * flushed; errors of writing are reported, with errno as they left it. */
int png_write(FILE *f, const struct image *image, const struct image_text *texts, int count,
              int level, struct error *e);
/* The same into memory: *data is malloc'ed. */
int png_encode(uint8_t **data, size_t *size, const struct image *image,
               const struct image_text *texts, int count, int level, struct error *e);

#endif
