#ifndef CCLD_FORMATS_IMAGES_IMAGE_STREAM_H
#define CCLD_FORMATS_IMAGES_IMAGE_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "formats/images/image.h"

/* The image stream: concatenated binary netpbm images up to the end of the file. netpbm's own tools
 * (pamsplit, pnmtopng ...) can read it, and their output can be read as one.
 *
 * Remarks about an image are comments in its header, one `# key=value` per line. Keys consist of
 * lower-case letters, digits and underscores: prompt, seed and those of sample_remarks
 * (common/diffusion/sample.h). Values are UTF-8, in which backslash, line feed, carriage return and
 * other control characters are escaped as \\ \n \r \xHH.
 *
 * Gray and RGB images are written as PGM (P5) and PPM (P6), which every program reads and whose
 * comments may have any length (netpbm refuses PAM header lines above 255 bytes). Images with alpha
 * are written as PAM (P7), where a value too long for one line continues in further comments with
 * the same key and a `+`: `# prompt=...`, `# prompt+=...`. 16-bit samples are big-endian. */

struct image_remarks {
    struct image_text *items;
    int count;
};
void image_remarks_set(struct image_remarks *r, const char *key, const char *value); /* copies */
const char *image_remarks_find(const struct image_remarks *r, const char *key); /* NULL: none */
void image_remarks_release(struct image_remarks *r);

/* Writes one image and flushes. remarks may be NULL. */
int image_stream_write(FILE *f, const struct image *image, const struct image_remarks *remarks,
                       struct error *e);
/* The same, without alpha, too, as PAM. */
int image_stream_write_as(FILE *f, const struct image *image, const struct image_remarks *remarks,
                          bool pam, struct error *e);

struct image_stream {
    FILE *file;
    int64_t count;      /* images read so far */
    int64_t max_pixels; /* per image */
};

/* max_pixels: see image_read. The caller keeps ownership of the file. */
void image_stream_init(struct image_stream *s, FILE *file, int64_t max_pixels);

/* Returns 1 and fills *image and *remarks (release both; remarks may be NULL); 0 at the end of the
 * stream, which may be empty; -1 with a reason that names the image, counted from 1: "image 3:
 * ended in the middle of the pixels". Skips comments that are not key=value, and white space
 * between images. */
int image_stream_read(struct image_stream *s, struct image *image, struct image_remarks *remarks,
                      struct error *e);

#endif
