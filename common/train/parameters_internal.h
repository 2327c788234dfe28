#ifndef CCLD_TRAIN_PARAMETERS_INTERNAL_H
#define CCLD_TRAIN_PARAMETERS_INTERNAL_H

#include "common/train/parameters.h"

/* A matrix of a CLOOB tower, to which weight decay applies, as in the reference. Embeddings,
 * including that of patches, are not among them. */
bool parameter_is_tower_matrix(const struct parameter *t);
/* Draws all weights (parameters_new). */
void parameters_initialize(struct parameters *p, uint64_t seed);
/* A new flat array of zeros. */
struct tensor *parameters_array(const struct parameters *p, int64_t count);
/* Allocates all arrays but weights for p->collective, unless they are. */
void parameters_allocate(struct parameters *p);
/* Puts compact gradients of elements first .. first+count in their places in `host`, as F32. */
void parameters_spread(const struct parameters *p, int64_t first, int64_t count, float *host);
bool parameters_any_compact(const struct parameters *p, int64_t first, int64_t count);
/* An array that this rank has as a whole. */
struct tensor *parameters_whole(const struct parameters *p, enum parameter_array which);

#endif
