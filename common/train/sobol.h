#ifndef CCLD_TRAIN_SOBOL_H
#define CCLD_TRAIN_SOBOL_H

#include <stdint.h>

/* Element `index` of the one-dimensional Sobol sequence (van der Corput's, base 2) with Owen's
 * nested uniform scramble (Owen, "Randomly permuted (t,m,s)-nets and (t,s)-sequences", 1995), in
 * [0, 1), a multiple of 2^-24. Any aligned block of 2^k indices has one element in each of the 2^k
 * equal intervals. A pure function of (seed, index); each block of 2^32 indices is scrambled on its
 * own. */
float sobol_scrambled(uint64_t seed, uint64_t index);

#endif
