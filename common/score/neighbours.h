#ifndef CCLD_SCORE_NEIGHBOURS_H
#define CCLD_SCORE_NEIGHBOURS_H

#include "common/score/embeddings.h"
#include "kernels/tape.h"

/* What nearest neighbors say about samples. A ball around a row reaches to its k-th nearest
 * neighbor of the same set, itself not counted; balls are closed, so that identical sets are
 * perfect. Comparisons are exact: products on the device preselect pairs, and double precision
 * decides those that are close.
 *
 *   precision   share of samples in a ball of the reference, k = 3
 *   recall      share of the reference in a ball of the samples, k = 3 (both: Kynkaanniemi et al.,
 *               "Improved precision and recall metric for assessing generative models", NeurIPS
 *               2019, arXiv 1904.06991)
 *   density     balls of the reference that a sample is in, divided by k, averaged, k = 5
 *   coverage    share of balls of the reference with a sample in them, k = 5 (both: Naeem et al.,
 *               "Reliable fidelity and diversity metrics for generative models", ICML 2020,
 *               arXiv 2002.09797)
 *   memorised   share of samples nearer to their nearest row of the reference than that is to its
 *               own nearest neighbor */
#define NEIGHBOURS_BALL  3
#define NEIGHBOURS_DENSE 5

struct neighbours {
    double precision, recall, density, coverage, memorised;
    int64_t *nearest;  /* [samples] the nearest row of the reference; the caller frees both */
    double *distance2; /* [samples] the square of the distance to it */
};

/* Rows have unit length. Both sets need more than NEIGHBOURS_DENSE of them. */
void neighbours_measure(struct neighbours *out, struct tape *t, const struct embeddings *samples,
                        const struct embeddings *reference);

#endif
