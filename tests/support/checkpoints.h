#ifndef CCLD_TESTS_CHECKPOINTS_H
#define CCLD_TESTS_CHECKPOINTS_H

#include "common/run/checkpoint.h"

/* Small checkpoints for tests, in test_folder(). */

extern struct device *checkpoints_device; /* with host memory; the test opens and closes it */

const char *checkpoints_folder(const char *name); /* valid until the next call */

/* Zero parameters with enough tensors to be taken for a U-Net's, one of them not trained, and a
 * scalar. Each array has about 800 * width bytes. */
struct parameters *checkpoints_parameters(int64_t width);
/* Calls f for each tensor of each array except the gradients. */
void checkpoints_each(struct parameters *p,
                      void (*f)(struct parameters *p, enum parameter_array array,
                                const struct parameter *t, void *arg),
                      void *arg);
/* For checkpoints_each: fill all tensors with random numbers of seed *(uint64_t *)seed, or with
 * *(float *)value. */
void checkpoints_draw(struct parameters *p, enum parameter_array array, const struct parameter *t,
                      void *seed);
void checkpoints_set(struct parameters *p, enum parameter_array array, const struct parameter *t,
                     void *value);
/* For checkpoints_each: clears `same` if a number differs from the one in `other`, or from `value`
 * if `other` is NULL. */
struct checkpoints_comparison {
    const struct parameters *other;
    float value;
    bool same;
};
void checkpoints_compare(struct parameters *p, enum parameter_array array,
                         const struct parameter *t, void *comparison);
/* Whether all tensors, the scalar and the number of updates are equal. */
bool checkpoints_equal(struct parameters *a, const struct parameters *p);

struct run *checkpoints_run(const char *folder); /* opens a run, or ends the test */
/* Saves p with an otherwise empty state at `step`. Returns false after printing the reason as a
 * diagnostic if it fails. */
bool checkpoints_save(struct run *r, struct parameters *p, int64_t step, int64_t keep);
/* Loads the checkpoint that checkpoint_find finds at `path` into *p and *step. */
int checkpoints_load(struct parameters **p, int64_t *step, const char *path, struct error *e);
/* Entries of a folder except hidden ones, sorted, each followed by a space; valid until the next
 * call. */
const char *checkpoints_entries(const char *folder);

#endif
