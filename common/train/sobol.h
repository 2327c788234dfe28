#ifndef CCLD_TRAIN_SOBOL_H
#define CCLD_TRAIN_SOBOL_H

#include "common/base/rng.h"

/* Element `index` of the one-dimensional Sobol sequence (van der Corput's, base 2) with Owen's
 * nested uniform scramble (Owen, "Randomly permuted (t,m,s)-nets and (t,s)-sequences", 1995): a
 * multiple of 2^-24 in [0, 1). Any aligned block of 2^k indices, k at most 24, has one element in
 * each of 2^k equal intervals. A pure function of its arguments. purpose: RNG_TIME or
 * RNG_HOLDOUT_TIME; each purpose, and each block of 2^24 indices, has its own scramble. */
float sobol_scrambled(uint64_t seed, enum rng_purpose purpose, uint64_t index);

#endif
