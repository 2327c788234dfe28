#ifndef CCLD_NETS_LOADER_H
#define CCLD_NETS_LOADER_H

#include <stdbool.h>

#include "common/nets/names.h"
#include "kernels/tensor.h"

/* A network's parameters on a device, taken by name from a weight file. On the CPU a tensor shows
 * the mapped file wherever the file holds it as the ops want it; otherwise it is converted once.
 * Names that lie on the device itself (a parameters's) are always shown where they are. */
struct loader {
    struct device *device;
    const struct named_weights *names;
    struct error *error; /* filled at the first failure */
    bool failed;         /* sticky: check once at the end */
    struct loaded {
        struct tensor *tensor;
        const struct weight *weight; /* what it shows; NULL: several, stacked */
        bool matrix;                 /* asked for by loader_get */
        bool stacked;                /* part of a stack: the ops do not see it */
    } * items;                       /* all that were handed out */
    int count, capacity;
};

void loader_init(struct loader *l, const struct named_weights *names, struct device *d,
                 struct error *e);
/* Releases all tensors handed out. */
void loader_release(struct loader *l);

bool loader_has(const struct loader *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Matrices and kernels, as stored where the ops read that type. shape: -1 fits any size. The tensor
 * belongs to the loader. NULL after a failure. */
struct tensor *loader_get(struct loader *l, int ndim, const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Matrices [o, k] that were handed out before, all of one k, as one [sum of o, k] whose products
 * are made at once; rows[i] is where matrix i begins in it. NULL where they lie apart and would
 * have to be copied into the CPU's memory: then they are used one by one. */
struct tensor *loader_stack(struct loader *l, struct tensor *const *matrices, int count,
                            int64_t *rows);
/* To be called when weights that lie on the device have changed, and before they are first used:
 * makes their working copies anew (kernels/weight.h). */
void loader_refresh(struct loader *l);
/* Gives the working copies' memory back until the next refresh. */
void loader_forget_copies(struct loader *l);
/* Biases, norms, positions: always F32. */
struct tensor *loader_get_f32(struct loader *l, int ndim, const int64_t *shape, const char *format,
                              ...) __attribute__((format(printf, 4, 5)));

#endif
