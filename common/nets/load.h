#ifndef CCLD_NETS_LOAD_H
#define CCLD_NETS_LOAD_H

#include <stdbool.h>

#include "common/nets/names.h"
#include "kernels/tensor.h"

/* A network's parameters on a device, taken by name from a weight file. On the CPU a tensor shows
 * the mapped file wherever the file holds it as the ops want it; otherwise it is converted once. */
struct loader {
    struct device *device;
    const struct named_weights *names;
    struct error *error;         /* filled at the first failure */
    bool failed;                 /* sticky: check once at the end */
    struct tensor **tensors;     /* all that were handed out */
    const struct weight **taken; /* what each of them shows */
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
/* Biases, norms, positions: always F32. */
struct tensor *loader_get_f32(struct loader *l, int ndim, const int64_t *shape, const char *format,
                              ...) __attribute__((format(printf, 4, 5)));

#endif
