#ifndef CCLD_FORMATS_IMAGES_IMAGE_H
#define CCLD_FORMATS_IMAGES_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

/* Still images: JPEG, PNG, WebP, BMP and the netpbm family (PBM, PGM, PPM, PAM; plain and raw), and
 * those of GIF, TIFF, HEIC, AVIF and JPEG XL whose library the build has found; it is loaded when
 * the first of its files is read. The first bytes tell the format, not the file name. Nothing here
 * converts colors: pixels are as in the file, accompanied by what a consumer needs to interpret
 * them (see common/images/prepare.h).
 *
 * All functions may be called from several threads at once, on different images. */

enum image_format {
    IMAGE_JPEG,
    IMAGE_PNG,
    IMAGE_WEBP,
    IMAGE_PNM,
    IMAGE_BMP,
    IMAGE_GIF,
    IMAGE_TIFF,
    IMAGE_HEIF, /* HEIC */
    IMAGE_AVIF,
    IMAGE_JXL
};
/* Names of the formats that this build reads, separated by blanks. */
extern const char image_formats[];
enum image_color { IMAGE_GRAY, IMAGE_RGB, IMAGE_CMYK, IMAGE_LAB };

struct image {
    int width, height; /* as stored, before EXIF orientation is applied */
    int channels;      /* 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha or CMYK */
    int depth;         /* bits per sample in `pixels`: 8, or 16 in native byte order */
    enum image_color color;
    bool alpha; /* the last channel is opacity, not premultiplied */
    /* Alpha comes from a transparent color or from palette entries (PNG tRNS); the file stores no
     * alpha per pixel. */
    bool alpha_from_key;
    /* The largest sample value in the file: 255 or 65535, or the maxval of a PNM header. Samples in
     * `pixels` are always scaled to the full range of `depth`. */
    int source_maxval;
    int orientation; /* EXIF, 1 (upright) to 8; 1 if the file has none */
    enum image_format format;
    bool first_of_several; /* the file has further frames or pages, which are not read */
    uint8_t *icc;          /* ICC profile, or NULL */
    size_t icc_size;
    char *text; /* see image_options.text; or NULL */
    /* [height, width, channels] without gaps between rows. In CMYK, 255 is full ink; in L*a*b* of 8
     * bits, 255 is an L* of 100, and 128 an a* or b* of 0. The last row is followed by
     * IMAGE_PADDING zero bytes, for vector loads. */
    uint8_t *pixels;
    bool truncated; /* pixels are missing; only with image_options.allow_truncated */
    /* The decoder's complaint about a damaged file that it still decoded to the last pixel, as a
     * viewer would; "" if none. Worth a warning, not an error. */
    char warning[120];
};

struct image_options {
    int64_t max_pixels; /* limits width * height; 0: IMAGE_DEFAULT_MAX_PIXELS */
    /* Of a truncated JPEG, PNG or WebP whose header is whole, return what is there:
     * image->truncated.
     */
    bool allow_truncated;
    /* What pixels that are missing from a PNG or WebP have in all colors, 0 to 255; they are
     * opaque. In a JPEG they are gray, as libjpeg leaves them. */
    uint8_t missing;
    /* Read gray TIFFs of signed, floating-point or 32-bit samples, clipped to 0 to 255 as Pillow
     * does. Otherwise such files, whose white and black no tag tells, are refused. */
    bool clip_gray;
    const char *text; /* NULL, or the keyword of a PNG's text that is kept, as UTF-8 */
};

#define IMAGE_PADDING            64
#define IMAGE_DEFAULT_MAX_PIXELS 200000000

/* Reads one image. max_pixels limits width * height (0: IMAGE_DEFAULT_MAX_PIXELS) and is checked
 * against the header before anything of that size is allocated or decoded.
 * A truncated file is an error, even if part of the image could be decoded. Of an animation, the
 * first frame is read; of an animated PNG, the default image; of a TIFF, the first page; of HEIC,
 * the primary image; of concatenated PNMs, the first. Formats without a library in this build are
 * an error that names the Debian package. Returns 0 and fills *image, which the caller releases, or
 * returns -1, READ_SYSTEM_FAILED (common/base/files.h) or, for a file of an unknown
 * format, IMAGE_UNKNOWN, with a reason and nothing to release. */
#define IMAGE_UNKNOWN (-3)
int image_read(struct image *image, const char *path, int64_t max_pixels, struct error *e);
/* Reads an open file, which may be a pipe, to its end, and decodes it in the same way. */
int image_read_stream(struct image *image, int fd, int64_t max_pixels, struct error *e);
int image_decode(struct image *image, const void *data, size_t size, int64_t max_pixels,
                 struct error *e);
/* The bytes of a file, malloc'ed, as image_read reads them. Returns 0, -1 or READ_SYSTEM_FAILED. */
int image_read_bytes(uint8_t **data, size_t *size, const char *path, struct error *e);
/* image_read and image_decode with further options. */
int image_read_with(struct image *image, const char *path, const struct image_options *o,
                    struct error *e);
int image_decode_with(struct image *image, const void *data, size_t size,
                      const struct image_options *o, struct error *e);
/* Whether the file that starts so is of a format that image_decode reads. */
bool image_is_known(const void *data, size_t size);
/* The same of a file: 1 if it is, 0 if not, -1 if it cannot be read. Does not wait for a FIFO. */
int image_file_is_known(const char *path);
/* For what decodes or prepares an image after it has set errno to 0: returns status or, if memory
 * ran out meanwhile, READ_SYSTEM_FAILED, or -1 for an image of more than a gibibyte. Decoders and
 * lcms2 leave out, without failing, what they have no memory for. */
int image_check_memory(int status, const struct image *image, struct error *e);
/* Frees what *image owns and zeroes it; a zeroed image is fine. */
void image_release(struct image *image);

/* Fills *image with zeroed pixels. channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha;
 * depth: 8 or 16. */
int image_new(struct image *image, int width, int height, int channels, int depth, struct error *e);
size_t image_bytes(const struct image *image); /* of the pixels, without the padding */

/* A key and a value that accompany an image: UTF-8, zero-terminated. */
struct image_text {
    char *key, *value;
};

/* Writes a PNG: gray or RGB, with or without alpha, 8 or 16 bits, without a color profile. Each
 * text becomes a tEXt chunk if its value fits Latin-1, otherwise iTXt; bytes that are not valid
 * UTF-8 become U+FFFD. Keys are 1 to 79 printable ASCII characters. level: zlib's, 0 to 9, or -1
 * for the default. Flushes the stream; write errors are reported and leave errno set. */
int png_write(FILE *f, const struct image *image, const struct image_text *texts, int count,
              int level, struct error *e);
/* The same into memory: *data is malloc'ed. */
int png_encode(uint8_t **data, size_t *size, const struct image *image,
               const struct image_text *texts, int count, int level, struct error *e);

#endif
