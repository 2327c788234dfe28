#ifndef CCLD_SCORE_EMBEDDINGS_H
#define CCLD_SCORE_EMBEDDINGS_H

#include <stdint.h>

#include "common/base/error.h"

/* CLOOB embeddings in host memory, one row per image, and where each came from. */
struct embeddings {
    int64_t count, width;
    float *values; /* [count, width] */
    char **paths;  /* [count]; each may be NULL */
    int64_t capacity;
};

/* Appends a copy of a row, scaled to length 1; a row of zeros stays zero. Set width first, in a
 * zeroed struct. path may be NULL; it is copied. */
void embeddings_add(struct embeddings *x, const float *row, const char *path);
/* Fails, naming the first such row, if elements are infinite or NaN, or if all are zero. what: of
 * the rows, for the message, e.g. "sample". */
int embeddings_check(const struct embeddings *x, const char *what, struct error *e);
void embeddings_release(struct embeddings *x);

/* Of two rows of unit length. */
double embeddings_cosine(const float *a, const float *b, int64_t width);
/* The square of the Euclidean distance. */
double embeddings_distance2(const float *a, const float *b, int64_t width);

#endif
