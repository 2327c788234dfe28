#include <stdint.h>
#include <string.h>

#include "kernels/device.h"

/* Nothing is computed or read, so addresses only need to be distinct. */
static void *allocate(struct device *d, size_t bytes)
{
    static uintptr_t next = 1 << 20;
    uintptr_t at = next;
    next += bytes;
    return (void *)at;
}

static void deallocate(struct device *d, void *p)
{
}

static void upload(struct device *d, void *dst, const void *host_src, size_t bytes)
{
}

static void download(struct device *d, void *host_dst, const void *src, size_t bytes)
{
    memset(host_dst, 0, bytes);
}

#define NOTHING(name, args)                                                                        \
    static void dry_##name(struct device *d, const struct args *a)                                 \
    {                                                                                              \
    }
#define OP(name)          NOTHING(name, name##_args)
#define OP_TRAINING(name) NOTHING(name, name##_args)
#define OP_BACKWARD(name) NOTHING(name##_backward, name##_backward_args)
#include "kernels/ops.def"

/* Present, so that working copies of weights are allocated as on such a device. */
static void convert_weights(struct device *d, const struct convert_weights_args *a)
{
}

static void memory(struct device *d, size_t *unused, size_t *total)
{
    *unused = *total = SIZE_MAX;
}

void dry_backend_init(struct backend *b, bool working_weights)
{
    b->name = "dry";
    b->allocate = allocate;
    b->deallocate = deallocate;
    b->upload = upload;
    b->download = download;
    if (working_weights)
        b->convert_weights = convert_weights;
    b->fuses = working_weights; /* both are a GPU's */
    b->memory = memory;
#define OP(name)          b->name = dry_##name;
#define OP_TRAINING(name) b->name = dry_##name;
#define OP_BACKWARD(name) b->name##_backward = dry_##name##_backward;
#include "kernels/ops.def"
}
