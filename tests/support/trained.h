#ifndef CCLD_TESTS_TRAINED_H
#define CCLD_TESTS_TRAINED_H

#include "common/train/parameters.h"

/* Comparisons of trained parameters, on devices with host memory. */

/* The trained elements of an array that is not sharded, in place. */
const float *trained_values(const struct parameters *p, enum parameter_array which);
/* Of what both have: if an array is sharded, its slices. */
bool trained_same_bits(const struct parameters *a, const struct parameters *b,
                       enum parameter_array which);
/* relative_l2 of the trained elements. */
double trained_distance(const struct parameters *a, const struct parameters *b,
                        enum parameter_array which);

/* A device like d whose dry runs count tensors only, not the regions that they lie in. */
struct device without_regions(const struct device *d);

/* A copy of all trained elements but the gradients. */
struct snapshot {
    float *arrays[ARRAY_COUNT];
};
void snapshot_take(struct snapshot *s, const struct parameters *p);
/* Whether p still has the same bits. */
bool snapshot_matches(const struct snapshot *s, const struct parameters *p);
void snapshot_release(struct snapshot *s);

#endif
