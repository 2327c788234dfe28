#ifndef CCLD_NETS_LOADER_H
#define CCLD_NETS_LOADER_H

#include <stdbool.h>

#include "common/nets/names.h"
#include "kernels/tensor.h"

/* Puts a network's parameters on a device, by name, from a weight file. On the CPU a tensor borrows
 * the mapped file if the file stores it in a form that the ops read; otherwise it is converted
 * once. Names whose data are on the device already (struct parameters) are always borrowed. */
struct loader {
    struct device *device;
    const struct named_weights *names;
    struct error *error; /* set by the first failure */
    bool failed;         /* sticky: check once at the end */
    struct loaded {
        struct tensor *tensor;
        const struct weight *weight; /* its source; NULL: several, stacked */
        bool matrix;                 /* requested with loader_get or loader_get_table */
        bool table;                  /* requested with loader_get_table */
        bool stacked;                /* part of a stack: the ops do not see it */
    } * items;                       /* everything handed out */
    int count, capacity;
};

void loader_init(struct loader *l, const struct named_weights *names, struct device *d,
                 struct error *e);
/* Releases all tensors handed out. */
void loader_release(struct loader *l);

/* Records a failure, unless there was one before. */
void loader_fail(struct loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool loader_has(const struct loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Matrices and kernels, in the stored type if the ops read it. shape: -1 fits any size. The tensor
 * belongs to the loader. NULL after a failure. */
struct tensor *loader_get(struct loader *l, int ndim, const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for rows that the embedding op looks up. */
struct tensor *loader_get_table(struct loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same for biases, norms and positions: always F32. */
struct tensor *loader_get_f32(struct loader *l, int ndim, const int64_t *shape, const char *format,
                              ...) __attribute__((format(printf, 4, 5)));
/* Stacks matrices [o, k] handed out before, all with the same k, into one [sum of o, k], so that
 * one product serves all; rows[i] is the row at which matrix i begins. NULL if they are scattered
 * and stacking would copy them in the CPU's memory: use them one by one. */
struct tensor *loader_stack(struct loader *l, struct tensor *const *matrices, int count,
                            int64_t *rows);
/* Updates the working copies of weights (kernels/weight.h). Call it before weights that are on the
 * device are first used, and whenever they have changed. */
void loader_refresh(struct loader *l);
/* Frees the working copies until the next refresh. */
void loader_forget_copies(struct loader *l);

#endif
