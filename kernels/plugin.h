#ifndef CCLD_KERNELS_PLUGIN_H
#define CCLD_KERNELS_PLUGIN_H

#include "common/base/error.h"
#include "kernels/device.h"

/* Differs where struct device, the backend's table or any op's arguments do. */
#define OP(name)          +31 * sizeof(struct name##_args)
#define OP_TRAINING(name) +37 * sizeof(struct name##_args)
#define OP_BACKWARD(name) +41 * sizeof(struct name##_backward_args)
static const size_t plugin_contract = 43 * sizeof(struct device) + 47 * sizeof(struct backend)
#include "kernels/ops.def"
    ;

/* The CUDA backend is a shared object of its own, libccld-cuda.so, that is loaded when a GPU is
 * asked for: programs run where there is no driver and no CUDA library. It links nothing of the
 * program's; what it needs of it comes in this table. */
struct plugin_host {
    size_t contract; /* PLUGIN_CONTRACT of the program: is it of the same build? */
    void (*die)(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
    void (*warn)(const char *format, ...) __attribute__((format(printf, 1, 2)));
    void (*note)(const char *format, ...) __attribute__((format(printf, 1, 2))); /* with -v */
    /* Memory of the device's pool; as device_allocate. */
    void *(*allocate)(struct device *d, size_t bytes, size_t *granted);
    void (*release)(struct device *d, void *p, size_t granted);
    const char *cache_folder; /* for what is worth keeping between runs; NULL: nowhere. Exists. */
};

/* What the shared object exports, as "ccld_cuda_backend". Fills what it has of *b; the caller has
 * emptied it. Returns NULL, or why it cannot be used. */
typedef const char *plugin_entry(const struct plugin_host *host, struct backend *b);

/* Then, per device, before its pool is used: makes d->state for GPU `index`. NULL, or why not. */
typedef const char *plugin_open(struct device *d, int index); /* "ccld_cuda_open" */

/* Sets *b to the plugin's table, loaded at the first call. Looks where $CCLD_CUDA_PLUGIN says, else
 * beside the program, else where it is installed with it. */
int plugin_backend(const struct backend **b, plugin_open **open, struct error *e);

#endif
