#ifndef CCLD_SCORE_EMBED_INPUT_H
#define CCLD_SCORE_EMBED_INPUT_H

#include "common/images/image_input.h"
#include "common/score/embedder.h"

/* An image that has gone through the tower. What it points to is valid during the call; image and
 * remarks may be taken, and are zeroed then. */
struct embedded {
    const float *embed;           /* [embed_width] */
    struct image image;           /* as read; zeroed unless it was to be kept */
    struct image_remarks remarks; /* of a stream */
    const char *path;             /* NULL: standard input */
    const char *name;             /* "x.png", "x.ppm, image 3", "image 3" */
};
typedef int embedded_emit(void *context, struct embedded *x, struct error *e);

/* Embeds all images of a source in batches and calls emit for each, in their order. keep: with the
 * images themselves. label: of the progress line, with the number of images that are expected, or
 * -1. Stops when emit fails. */
int embed_input(const struct embedder *m, struct image_input *source, bool keep, const char *label,
                int64_t expected, embedded_emit *emit, void *context, struct error *e);

#endif
