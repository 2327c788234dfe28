#ifndef CCLD_SCORE_DISTANCES_H
#define CCLD_SCORE_DISTANCES_H

#include "common/score/frechet.h"
#include "common/score/kernel_distance.h"
#include "common/score/neighbours.h"

/* How far a set of samples is from the images they should be like. */
struct distances {
    int64_t samples, reference; /* how many */
    struct frechet frechet;
    struct kernel_distance kernel;
    struct neighbours neighbours;
};

/* Fails if the sets' embeddings have different widths or values that are not finite, or if one of
 * the sets is too small. seed: of the order in which samples are taken and of subsets. Release *out
 * with distances_release. */
int distances_measure(struct distances *out, struct tape *t, const struct embeddings *samples,
                      const struct embeddings *reference, uint64_t seed, struct error *e);
void distances_release(struct distances *d);

#endif
