#ifndef CCLD_KERNELS_DEVICE_H
#define CCLD_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"
#include "kernels/backward.h"
#include "kernels/group.h"
#include "kernels/ops.h"
#include "kernels/training.h"
#include "kernels/weight.h"

/* What profiles tell apart within an op, if its backend can. */
enum op_part {
    PART_OTHER,
    PART_INPUT_GRADIENT,
    PART_WEIGHT_GRADIENT,
    PART_WEIGHT_SUM, /* added up in F32, where that takes a kernel of its own */
    PART_BIAS_GRADIENT,
    PART_COUNT
};

/* A table with a function per op, filled from ref/ and overwritten by a backend's own versions. */
struct backend {
    const char *name;
    void *(*allocate)(struct device *d, size_t bytes); /* NULL if out of memory */
    void (*deallocate)(struct device *d, void *p);
    /* May return before the data arrive, but host_src may be reused at once. */
    void (*upload)(struct device *d, void *dst, const void *host_src, size_t bytes);
    void (*download)(struct device *d, void *host_dst, const void *src, size_t bytes);
    /* The following may be NULL if the backend is synchronous and reads weights as stored. */
    void (*close)(struct device *d);
    void (*synchronize)(struct device *d); /* waits for all pending work */
    void (*memory)(struct device *d, size_t *unused, size_t *total); /* bytes, of the device */
    void (*convert_weights)(struct device *d, const struct convert_weights_args *a);
    void (*load_weight)(struct device *d, const struct load_weight_args *a);
    /* Between begin and end, ops and fills are recorded, not run. NULL: recording is not supported.
     * record_end returns NULL if the work could not be recorded. */
    void (*record_begin)(struct device *d);
    void *(*record_end)(struct device *d);
    void (*replay)(struct device *d, void *recording);
    void (*forget)(struct device *d, void *recording);
    /* A clock in the queue of work, for profiles. lap ends the interval that the previous lap
     * began, and its time belongs to `key`, from 0 on. laps waits for all pending work, adds the
     * times so far to seconds[key] and forgets them; the next lap begins the first interval. Not
     * while work is recorded. NULL: the host's clock tells as much. */
    void (*lap)(struct device *d, int key);
    void (*laps)(struct device *d, double (*seconds)[PART_COUNT]);
    /* What decides how results are rounded: the GPU's model, the CPU's instruction set. */
    const char *(*model)(struct device *d);
    const struct group_functions *group; /* NULL: not supported */
    /* Ops take a residual, keep statistics and add to gradients of activations (kernels/ops.h,
     * kernels/backward.h), each of which would otherwise be another pass over memory. */
    bool fuses, fuses_bf16; /* always; if activations are BF16 */
    bool bf16, fp16;        /* activations may have that type */
    bool fast_bf16;         /* and BF16 is faster than F32 */
/* clang-format off */
#define OP(name)          void (*name)(struct device *d, const struct name##_args *a);
#define OP_TRAINING(name) void (*name)(struct device *d, const struct name##_args *a);
#define OP_BACKWARD(name) void (*name##_backward)(struct device *d, const struct name##_backward_args *a);
#include "kernels/ops.def"
    /* clang-format on */
};

/* Runs ops. Memory comes from a pool (kernels/pool.h), so that a repeated step gets the same
 * addresses. */
struct device {
    const struct backend *backend;
    struct pool *pool;
    struct pool *recorded_pool; /* replaces `pool` while recording (kernels/replay.c); or NULL */
    int recordings;             /* that use its memory */
    enum dtype compute;         /* type of activations and working weights: F32, BF16 or F16 */
    bool tf32;                  /* F32 products may be rounded to TF32 */
    bool host_memory;           /* data pointers may be read by the CPU */
    bool dry;                   /* computes nothing: device_open_dry */
    bool dry_of_host;           /* and stands for one with host_memory */
    const char *advice;         /* what to try when out of memory, or NULL */
    void *state;                /* the backend's own */
};

/* spec: "auto", "cpu", "ref" (the reference in plain C, for tests), "cuda" or "cuda:N". "auto" is a
 * GPU if one can be used, else the CPU. Returns 0, or -1 with e set. */
int device_open(struct device **out, const char *spec, struct error *e);
/* name: "auto" (bf16 on a GPU, else fp32), "fp32", "bf16" or "fp16". Call it before creating
 * any tensor. Returns 0, or -1 with e set if the device does not support it. */
int device_set_precision(struct device *d, const char *name, bool tf32, struct error *e);
const char *device_precision(const struct device *d); /* "fp32", "bf16", "fp16" */
/* What decides how results are rounded: a GPU's model, "avx2"; the backend's name if unknown. Valid
 * until the next call. */
const char *device_model(struct device *d);
/* Free bytes on the device, including the pool's idle blocks; SIZE_MAX if unknown. On the CPU: what
 * this process may still allocate (common/base/memory_limit.h). */
size_t device_memory_left(struct device *d);
void device_synchronize(struct device *d);
static inline bool device_fuses(const struct device *d)
{
    return d->backend->fuses || (d->backend->fuses_bf16 && d->compute == DTYPE_BF16);
}
/* A device that computes nothing and whose addresses have no memory behind them; what it downloads
 * is zero. Weights that the other device would borrow from a file are borrowed. */
struct device *device_open_dry(const struct device *other);
/* After a dry run: bytes that tensors need at the peak of the same work on the other device. On the
 * CPU, where no margin is left for it, they include the pool's idle blocks. */
int64_t device_dry_memory(const struct device *dry);
void device_close(struct device *d);

/* Bytes used by tensors now, the peak so far, unused bytes in the pool, and the peak of what the
 * pool took from the system, used or not. */
struct device_memory {
    size_t in_use, peak, idle, taken;
};
struct device_memory device_memory(const struct device *d);
/* Idle blocks are returned to the system before more than `bytes` are taken from it. */
void device_plan(struct device *d, size_t bytes);
void device_trim(struct device *d); /* returns idle blocks to the system */

/* Memory from the pool; *granted is the size of the block. Ends the program when out of memory. */
void *device_allocate(struct device *d, size_t bytes, size_t *granted);
void device_release(struct device *d, void *data, size_t granted);

/* Fill a backend's table: ref_backend_init and dry_backend_init completely, cpu_backend_init only
 * the ops it replaces. cpu_scratch_init and gpu_scratch_init make a dry backend's ops take the
 * scratch memory of the CPU's or a GPU's. */
void ref_backend_init(struct backend *b);
void cpu_backend_init(struct backend *b);
void cpu_scratch_init(struct backend *b);
void gpu_scratch_init(struct backend *b);
void dry_backend_init(struct backend *b, bool working_weights);

#endif
