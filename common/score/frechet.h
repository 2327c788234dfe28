#ifndef CCLD_SCORE_FRECHET_H
#define CCLD_SCORE_FRECHET_H

#include "common/score/embeddings.h"

/* The Frechet distance of two sets' means m and covariances C (divided by count - 1):
 *   |m1 - m2|^2 + trace(C1) + trace(C2) - 2 trace((C1 C2)^(1/2))
 * (Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash
 * equilibrium", NeurIPS 2017, arXiv 1706.08500). All sums are in double precision; the trace of the
 * root is the sum of the roots of the eigenvalues of L^T C2 L, where C1 = L L^T. The sets may have
 * fewer rows than dimensions, but at least two.
 *
 * Of few samples the distance comes out too large, by about a constant over their number. So it is
 * also computed for the first n samples, at FRECHET_POINTS numbers n, and a straight line in 1 / n
 * is extrapolated to 0 (Chong and Forsyth, "Effectively unbiased FID and Inception Score and where
 * to find them", CVPR 2020, arXiv 1911.07023; they draw other samples at each point). The first n
 * is a tenth of all, but no less than twice the dimensions or, if that is less, half of all. */
#define FRECHET_POINTS 15

struct frechet {
    double distance; /* not below 0 */
    double infinite; /* extrapolated; may be negative */
};

/* order: numbers of the samples, in random order. */
void frechet_measure(struct frechet *out, const struct embeddings *samples, const int64_t *order,
                     const struct embeddings *reference);

#endif
