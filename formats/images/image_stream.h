#ifndef CCLD_FORMATS_IMAGES_IMAGE_STREAM_H
#define CCLD_FORMATS_IMAGES_IMAGE_STREAM_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "formats/images/image.h"

/* The image stream: binary netpbm images one behind the other until the end of the file, so
 * netpbm's own tools (pamsplit, pnmtopng, ...) read what we write and the other way round.
 *
 * What is known about an image stands in comments of its header, `# key=value` one a line. Keys are
 * lower-case letters, digits and underscores: prompt, seed, steps, method, guidance, model. Values
 * are UTF-8 in which a backslash, a line feed, a carriage return and other control characters are
 * written \\ \n \r \xHH.
 *
 * Gray and RGB are written as PGM (P5) and PPM (P6), which everything reads and whose comments may
 * be of any length (netpbm refuses PAM header lines above 255 bytes); with alpha, as PAM (P7),
 * where a value too long for one line goes on in further comments of the same key with a `+`:
 * `# prompt=...`, `# prompt+=...`. 16-bit samples are big-endian. */

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

struct image_stream {
    FILE *file;
    int64_t count;      /* images read so far */
    int64_t max_pixels; /* of one image */
};

/* max_pixels as in image_read. The file stays the caller's. */
void image_stream_init(struct image_stream *s, FILE *file, int64_t max_pixels);

/* Returns 1 and fills *image and *remarks (release both; remarks may be NULL); 0 at the end of the
 * stream; -1 with a reason that names the image, counted from 1: "image 3: ended in the middle of
 * the pixels". An empty stream is 0 at once. Comments that are not key=value are skipped, and so is
 * white space between images. */
int image_stream_read(struct image_stream *s, struct image *image, struct image_remarks *remarks,
                      struct error *e);

#endif
