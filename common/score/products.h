#ifndef CCLD_SCORE_PRODUCTS_H
#define CCLD_SCORE_PRODUCTS_H

#include "common/score/embeddings.h"
#include "kernels/tape.h"

/* Inner products of many embeddings, on a device, in single precision whatever the device computes
 * networks with. */

/* Of unit vectors: how far an inner product may be from the exact one. */
#define PRODUCTS_ERROR 1e-5f
#define PRODUCTS_BLOCK 1024

/* The rows on the device, [count, width]. */
struct tensor *products_upload(struct tape *t, const float *rows, int64_t count, int64_t width);
/* out [rows, columns]: rows first_row .. of a with rows first_column .. of b. */
struct products_block {
    struct tensor *a, *b;
    int64_t first_row, rows, first_column, columns;
};
void products_run(float *out, struct tape *t, const struct products_block *block);

/* The same, all with all, about as exact as in double precision, in three times the time: rows of
 * unit length are split into multiples of 2^-11, whose inner products single precision holds
 * exactly, and the rest, whose products are small (as Ozaki et al., "Error-free transformations of
 * matrix multiplication", Numerical Algorithms 59, 2012). */
struct split_rows {
    struct tensor *coarse; /* [count, width] x1, with x = x1 + x2 */
    struct tensor *left;   /* [count, 2 width] x2, x */
    struct tensor *right;  /* [count, 2 width] x1, x2 */
    int64_t count;
};
void split_rows_upload(struct split_rows *s, struct tape *t, const float *rows, int64_t count,
                       int64_t width);
void split_rows_release(struct split_rows *s);
/* out: [a->count, b->count]. */
void products_run_split(double *out, struct tape *t, const struct split_rows *a,
                        const struct split_rows *b);

#endif
