#ifndef CCLD_KERNELS_DEVICE_H
#define CCLD_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "kernels/backward.h"
#include "kernels/ops.h"
#include "kernels/training.h"
#include "kernels/weight.h"

/* A table of functions, one per op, filled with ref/ and overwritten where a backend does better.
 */
struct backend {
    const char *name;
    void *(*allocate)(struct device *d, size_t bytes); /* NULL when there is no memory left */
    void (*deallocate)(struct device *d, void *p);
    /* May return before the data are there, not before host_src may be changed. */
    void (*upload)(struct device *d, void *dst, const void *host_src, size_t bytes);
    void (*download)(struct device *d, void *host_dst, const void *src, size_t bytes);
    /* The rest may be NULL, where a backend is synchronous and computes with weights as they lie.
     */
    void (*close)(struct device *d);
    void (*synchronize)(struct device *d); /* waits for all that was begun */
    void (*memory)(struct device *d, size_t *unused, size_t *total); /* bytes of the whole device */
    void (*convert_weights)(struct device *d, const struct convert_weights_args *a);
    /* From begin to end ops and fills are not run but recorded; NULL when that is not possible. */
    void (*record_begin)(struct device *d);
    void *(*record_end)(struct device *d);
    void (*replay)(struct device *d, void *recording);
    void (*forget)(struct device *d, void *recording);
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
    struct pool *recorded_pool; /* while recording `pool` is this one (kernels/replay.c); or NULL */
    enum dtype compute;         /* F32, BF16 or F16: of activations and working weights */
    bool tf32;                  /* F32 products may be rounded to TF32 */
    bool host_memory;           /* data pointers may be read by the CPU */
    const char *advice;         /* what to try when there is too little memory, or NULL */
    void *state;                /* the backend's own */
};

/* spec: "auto", "cpu", "ref" (the plain C truth, for tests), "cuda", "cuda:N". */
int device_open(struct device **d, const char *spec, struct error *e);
/* precision: "auto" (bf16 where the device is a GPU), "fp32", "bf16", "fp16". Before any tensor is
 * made; -1 where the device cannot. */
int device_set_precision(struct device *d, const char *precision, bool tf32, struct error *e);
const char *device_precision(const struct device *d); /* "fp32", "bf16", "fp16" */
/* Bytes that are free on the device, counting the pool's idle blocks; SIZE_MAX where unknown. */
size_t device_memory_left(struct device *d);
void device_synchronize(struct device *d);
/* A device that computes nothing and has no memory behind its addresses: what device_memory says
 * after a run is what the other device would need for the same. */
struct device *device_open_dry(const struct device *other);
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
void dry_backend_init(struct backend *b, bool working_weights);

#endif
