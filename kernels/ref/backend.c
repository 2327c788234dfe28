#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

static void *allocate(struct device *d, size_t bytes)
{
    size_t rounded = (bytes + 63) & ~(size_t)63; /* aligned_alloc needs a multiple */
    return rounded < bytes ? NULL : aligned_alloc(64, rounded ? rounded : 64);
}

static void deallocate(struct device *d, void *p)
{
    free(p);
}

static void upload(struct device *d, void *dst, const void *host_src, size_t bytes)
{
    memcpy(dst, host_src, bytes);
}

static void download(struct device *d, void *host_dst, const void *src, size_t bytes)
{
    memcpy(host_dst, src, bytes);
}

void ref_backend_init(struct backend *b)
{
    b->name = "ref";
    b->allocate = allocate;
    b->deallocate = deallocate;
    b->upload = upload;
    b->download = download;
#define OP(name)          b->name = ref_##name;
#define OP_TRAINING(name) b->name = ref_##name;
#define OP_BACKWARD(name) b->name##_backward = ref_##name##_backward;
#include "kernels/ops.def"
}
