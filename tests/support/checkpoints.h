#ifndef CCLD_TESTS_CHECKPOINTS_H
#define CCLD_TESTS_CHECKPOINTS_H

#include "common/run/checkpoint.h"

/* Small checkpoints for tests, in test_folder(). */

extern struct device *checkpoints_device; /* with host memory; the test opens and closes it */

const char *checkpoints_folder(const char *name); /* until the next call */

/* Tensors enough to pass for a U-Net, one of them not trained, and a number: zeros. width scales
 * its size, about 800 * width bytes an array. */
struct parameters *checkpoints_parameters(int64_t width);
/* Calls f for each tensor of each array but the gradients. */
void checkpoints_each(struct parameters *p,
                      void (*f)(struct parameters *p, enum parameter_array array,
                                const struct parameter *t, void *arg),
                      void *arg);
/* For checkpoints_each: draws all numbers from *(uint64_t *)seed, sets them to *(float *)value. */
void checkpoints_draw(struct parameters *p, enum parameter_array array, const struct parameter *t,
                      void *seed);
void checkpoints_set(struct parameters *p, enum parameter_array array, const struct parameter *t,
                     void *value);
/* For checkpoints_each: clears `same` where a number is not that of `other` or, when NULL, `value`.
 */
struct checkpoints_comparison {
    const struct parameters *other;
    float value;
    bool same;
};
void checkpoints_compare(struct parameters *p, enum parameter_array array,
                         const struct parameter *t, void *comparison);
/* All of that, the scalar and the number of updates. */
bool checkpoints_equal(struct parameters *a, const struct parameters *p);

struct run *checkpoints_run(const char *folder); /* opened, or the test dies */
/* Of an empty state at that step; false, with the reason as a diagnostic, when it fails. */
bool checkpoints_save(struct run *r, struct parameters *p, int64_t step, int64_t keep);
/* What checkpoint_find finds into *b, *step. */
int checkpoints_load(struct parameters **b, int64_t *step, const char *path, struct error *e);
/* Entries of a folder but for hidden ones, sorted, each with a blank behind it; until the next
 * call.
 */
const char *checkpoints_entries(const char *folder);

#endif
