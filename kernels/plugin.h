#ifndef CCLD_KERNELS_PLUGIN_H
#define CCLD_KERNELS_PLUGIN_H

#include "common/base/error.h"
#include "kernels/device.h"

/* The CUDA backend is a shared object, libccld-cuda.so, loaded when a GPU is requested, so that
 * programs also run where there is no driver and no CUDA library. It links against nothing in the
 * program; struct plugin_host passes it what it needs. */
struct plugin_host {
    uint64_t contract; /* the program's plugin_contract */
    void (*die)(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
    void (*warn)(const char *format, ...) __attribute__((format(printf, 1, 2)));
    void (*note)(const char *format, ...) __attribute__((format(printf, 1, 2))); /* with -v */
    /* Memory from the device's pool, as device_allocate and device_release. */
    void *(*allocate)(struct device *d, size_t bytes, size_t *granted);
    void (*release)(struct device *d, void *p, size_t granted);
    const char *cache_folder; /* an existing folder for files kept between runs; NULL: none */
};

/* A row of struct backend's list of ops: the name and the size of the arguments. */
struct plugin_op {
    const char *name;
    size_t args_size;
};

#define OP(name)          {#name, sizeof(struct name##_args)},
#define OP_TRAINING(name) {#name, sizeof(struct name##_args)},
#define OP_BACKWARD(name) {#name "_backward", sizeof(struct name##_backward_args)},
static const struct plugin_op plugin_ops[] = {
#include "kernels/ops.def"
};
#define PLUGIN_OP_COUNT (sizeof plugin_ops / sizeof *plugin_ops)

static inline uint64_t plugin_hash(uint64_t hash, const void *data, size_t bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* What program and plugin must agree on before they share a table: the ops in order, each with its
 * name and the size of its arguments, the sizes of the structs they share, and the build id. The
 * Makefile defines PLUGIN_BUILD_ID, a checksum of the headers that declare all of these, so that
 * reordered fields are noticed, too. */
static inline uint64_t plugin_contract(uint64_t build_id, const struct plugin_op *ops, size_t count)
{
    const uint64_t sizes[] = {build_id, sizeof(struct device), sizeof(struct backend),
                              sizeof(struct plugin_host)};
    uint64_t hash = plugin_hash(UINT64_C(0xcbf29ce484222325), sizes, sizeof sizes);
    for (size_t i = 0; i < count; i++) {
        const uint64_t size = ops[i].args_size;
        size_t length = 0;
        while (ops[i].name[length])
            length++;
        hash = plugin_hash(hash, ops[i].name, length + 1);
        hash = plugin_hash(hash, &size, sizeof size);
    }
    return hash;
}

/* Exported by the shared object as "ccld_cuda_backend". Fills in what it implements of *b, which
 * the caller has zeroed. Returns NULL, or why the backend cannot be used. */
typedef const char *plugin_entry(const struct plugin_host *host, struct backend *b);

/* Exported as "ccld_cuda_open"; called once per device, before its pool is used. Creates d->state
 * for GPU `index`. Returns NULL, or why the GPU cannot be used. */
typedef const char *plugin_open(struct device *d, int index);

/* Exported as "ccld_cuda_count". Sets *count to the number of GPUs, at least 1. Returns NULL, or
 * why none can be used. */
typedef const char *plugin_count(int *count);

/* Sets *out to the plugin's table and *open to its plugin_open. The first call loads the plugin,
 * from $CCLD_CUDA_PLUGIN if that is set, else from the program's folder, else from ../lib/ccld
 * relative to it. Returns 0, or -1 with e set, as will every later call. */
int plugin_backend(const struct backend **out, plugin_open **open, struct error *e);

/* Loads the plugin as plugin_backend does and counts the GPUs, which starts CUDA: no process forked
 * from the calling one can use a GPU afterwards. Fails if there is none. */
int plugin_count_gpus(int *count, struct error *e);

#endif
