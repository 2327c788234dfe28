#ifndef CCLD_KERNELS_DEVICE_H
#define CCLD_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "kernels/backward.h"
#include "kernels/ops.h"
#include "kernels/training.h"

/* A table of functions, one per op, filled with ref/ and overwritten where a backend does better.
 */
struct backend {
    const char *name;
    void *(*allocate)(struct device *d, size_t bytes); /* NULL when there is no memory left */
    void (*deallocate)(struct device *d, void *p);
    void (*upload)(struct device *d, void *dst, const void *host_src, size_t bytes);
    void (*download)(struct device *d, void *host_dst, const void *src, size_t bytes);
/* clang-format off */
#define OP(name)          void (*name)(struct device *d, const struct name##_args *a);
#define OP_TRAINING(name) void (*name)(struct device *d, const struct name##_args *a);
#define OP_BACKWARD(name) void (*name##_backward)(struct device *d, const struct name##_backward_args *a);
#include "kernels/ops.def"
    /* clang-format on */
};

/* A place that runs ops. Its memory comes from a pool (kernels/pool.h), so that a repeated step
 * gets the same addresses. */
struct device {
    const struct backend *backend;
    struct pool *pool;
    bool host_memory; /* data pointers may be read by the CPU */
};

/* spec: "auto", "cpu", "ref" (the plain C truth, for tests), "cuda", "cuda:N". */
int device_open(struct device **d, const char *spec, struct error *e);
/* A device that computes nothing and has no memory behind its addresses: what device_memory says
 * after a run is what another device would need for the same. */
struct device *device_open_dry(void);
void device_close(struct device *d);

/* Bytes held by tensors now, the most ever, and bytes in the pool that no tensor uses. */
struct device_memory {
    size_t in_use, peak, idle;
};
struct device_memory device_memory(const struct device *d);
void device_trim(struct device *d); /* gives idle blocks back to the system */

void *device_allocate(struct device *d, size_t bytes,
                      size_t *granted); /* dies when out of memory */
void device_release(struct device *d, void *p, size_t granted);

/* Backends fill their table here: ref_backend_init all of it, the others only what they have. */
void ref_backend_init(struct backend *b);
void cpu_backend_init(struct backend *b);
void dry_backend_init(struct backend *b);

#endif
