#ifndef CCLD_SCORE_KERNEL_DISTANCE_H
#define CCLD_SCORE_KERNEL_DISTANCE_H

#include "common/score/embeddings.h"
#include "kernels/tape.h"

/* The kernel distance: the unbiased estimate of the squared maximum mean discrepancy of two sets
 * with the polynomial kernel of degree 3 (Binkowski et al., "Demystifying MMD GANs", ICLR 2018,
 * arXiv 1801.01403), its mean and standard deviation over random subsets. The kernel is
 *   k(x, y) = (x . y + 1)^3
 * of unit vectors: theirs, (x . y / d + 1)^3, for embeddings scaled to length sqrt(d). */
#define KERNEL_SUBSETS     100
#define KERNEL_SUBSET_SIZE 1000 /* of each set, or all if there are fewer */

struct kernel_distance {
    double mean, deviation;
};

/* Row i of subset s is the row at place i of a permutation: order_record_at(seed, 2 s, i) of
 * common/data/order.h for samples, 2 s + 1 for the reference. Both have at least two rows. */
void kernel_distance_measure(struct kernel_distance *out, struct tape *t,
                             const struct embeddings *samples, const struct embeddings *reference,
                             uint64_t seed);

#endif
