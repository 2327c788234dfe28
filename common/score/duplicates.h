#ifndef CCLD_SCORE_DUPLICATES_H
#define CCLD_SCORE_DUPLICATES_H

#include "common/score/embed_stores.h"
#include "kernels/tape.h"

/* Records whose embeddings, or the signatures of whose images, are near to those of an earlier
 * record. The distance of two of them is half the square of their Euclidean distance, which is 1 -
 * cosine for unit vectors.
 *
 * Records are taken in their order: one that is within the limit of a record that is kept is a
 * duplicate of it, of the nearest one if there are several; any other is kept. So a duplicate is
 * always near to the record that is kept for it, and records kept are never near to each other,
 * which chains of neighbors would not guarantee. */
struct duplicate {
    int64_t first, at; /* the record that is kept, and one that repeats it */
    double distance;
    bool mirrored; /* nearer when one of both is mirrored */
};

struct duplicates {
    struct duplicate *items; /* by first, then by at */
    int64_t count;
    int64_t groups; /* records with duplicates */
};

/* Compares all pairs: products on the device find those that can be near enough, distances in
 * double precision decide. So the result does not depend on the device. All rows, of length 1 at
 * most, are in memory. mirror: where a mirrored row has its columns, to compare each also with the
 * mirrored rows before it; or NULL. */
void duplicates_find(struct duplicates *out, struct embed_stores *s, struct tape *t, double limit,
                     const int *mirror);
void duplicates_release(struct duplicates *d);

#endif
