#ifndef CCLD_TESTS_DRAWS_H
#define CCLD_TESTS_DRAWS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/rng.h"

/* Which images of a generated world: those of training have no held-out combination, those of
 * holdout have at least one. */
enum split { SPLIT_TRAIN, SPLIT_HOLDOUT, SPLIT_BOTH };
extern const char *const split_names[]; /* "train", "holdout", "both", NULL */

/* The sequence of random draws of one scene, a pure function of all but `next`. */
struct draws {
    enum rng_purpose purpose;
    uint64_t seed, index, next;
    enum split split;
};

float draw_between(struct draws *d, float low, float high);
int draw_one_of(struct draws *d, int n); /* 0 to n - 1 */
bool draw_chance(struct draws *d, float probability);

#endif
