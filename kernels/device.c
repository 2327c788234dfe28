#include "kernels/device.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "kernels/plugin.h"
#include "kernels/pool.h"

void *device_allocate(struct device *d, size_t bytes, size_t *granted)
{
    void *data = pool_take(d->pool, bytes, granted);
    if (!data)
        die("out of memory: cannot allocate %zu MB, %zu MB in use%s%s", bytes >> 20,
            device_memory(d).in_use >> 20, d->advice ? ": try " : "", d->advice ? d->advice : "");
    return data;
}

void device_release(struct device *d, void *data, size_t granted)
{
    pool_give(d->pool, data, granted);
}

void device_plan(struct device *d, size_t bytes)
{
    pool_plan(d->pool, bytes);
}

void device_trim(struct device *d)
{
    pool_trim(d->pool);
}

struct device_memory device_memory(const struct device *d)
{
    struct device_memory memory = pool_memory(d->pool);
    if (d->recorded_pool && d->recorded_pool != d->pool) {
        struct device_memory recorded = pool_memory(d->recorded_pool);
        memory.in_use += recorded.in_use + recorded.idle; /* replayed work uses all of it */
        memory.peak += recorded.in_use + recorded.idle;
    }
    return memory;
}

size_t device_memory_left(struct device *d)
{
    size_t unused = SIZE_MAX, total;
    if (d->backend->memory)
        d->backend->memory(d, &unused, &total);
    else if (d->host_memory)
        unused = (size_t)memory_limit_left(1, "").bytes;
    size_t idle = pool_memory(d->pool).idle;
    return unused >= INT64_MAX || unused > SIZE_MAX - idle ? SIZE_MAX : unused + idle;
}

void device_synchronize(struct device *d)
{
    if (d->backend->synchronize)
        d->backend->synchronize(d);
}

static const struct backend *backend_table(bool fast)
{
    static struct backend tables[2];
    struct backend *b = &tables[fast];
    if (!b->name) {
        ref_backend_init(b);
        if (fast)
            cpu_backend_init(b);
    }
    return b;
}

static struct device *device_new(const struct backend *backend, bool host_memory)
{
    struct device *d = xcalloc(1, sizeof *d);
    d->backend = backend;
    d->compute = DTYPE_F32;
    d->host_memory = host_memory;
    d->pool = pool_new(d);
    return d;
}

static bool is_cuda(const char *spec)
{
    return !strncmp(spec, "cuda", 4) && (!spec[4] || spec[4] == ':');
}

static int open_cuda(struct device **out, int index, struct error *e)
{
    const struct backend *backend;
    plugin_open *open;
    if (plugin_backend(&backend, &open, e) != 0)
        return -1;
    struct device *d = device_new(backend, false);
    const char *problem = open(d, index);
    if (problem) {
        error_set(e, "%s", problem);
        pool_free(d->pool);
        free(d);
        return -1;
    }
    *out = d;
    return 0;
}

int device_open(struct device **out, const char *spec, struct error *e)
{
    bool automatic = !strcmp(spec, "auto");
    if (is_cuda(spec) || automatic) {
        struct error why;
        if (open_cuda(out, spec[4] == ':' ? atoi(spec + 5) : 0, automatic ? &why : e) == 0)
            return 0;
        if (!automatic)
            return -1;
        note("computing on the CPU: %s", why.text);
    }
    if (!strcmp(spec, "ref"))
        *out = device_new(backend_table(false), true);
    else if (!strcmp(spec, "cpu") || automatic)
        *out = device_new(backend_table(true), true);
    else
        return error_set(e, "no such device (auto, cpu, cuda or cuda:N)");
    return 0;
}

static const struct precision {
    const char *name;
    enum dtype dtype;
} precisions[] = {{"fp32", DTYPE_F32}, {"bf16", DTYPE_BF16}, {"fp16", DTYPE_F16}};

int device_set_precision(struct device *d, const char *name, bool tf32, struct error *e)
{
    if (!strcmp(name, "auto"))
        name = d->host_memory ? "fp32" : "bf16";
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        if (strcmp(precisions[i].name, name) != 0)
            continue;
        if (precisions[i].dtype == DTYPE_F16 && !d->backend->fp16)
            return error_set(e, "fp16 is for GPUs: the CPU computes in fp32 or bf16");
        if (precisions[i].dtype == DTYPE_BF16 && !d->backend->bf16)
            return error_set(e, "the reference computes in fp32");
        d->compute = precisions[i].dtype;
        d->tf32 = tf32;
        return 0;
    }
    return error_set(e, "no such precision (auto, fp32, bf16 or fp16)");
}

const char *device_precision(const struct device *d)
{
    size_t i = 0;
    while (precisions[i].dtype != d->compute)
        i++;
    return precisions[i].name;
}

const char *device_model(struct device *d)
{
    return d->backend->model ? d->backend->model(d) : d->backend->name;
}

struct device *device_open_dry(const struct device *other)
{
    static struct backend tables[2][2];
    bool working_weights = other->backend->convert_weights != NULL;
    bool of_host = other->host_memory || other->dry_of_host;
    struct backend *dry = &tables[working_weights][of_host];
    if (!dry->name) {
        dry_backend_init(dry, working_weights);
        if (of_host)
            cpu_scratch_init(dry);
        else if (working_weights)
            gpu_scratch_init(dry);
    }
    struct device *d = device_new(dry, false);
    d->compute = other->compute;
    d->dry = true;
    d->dry_of_host = of_host;
    return d;
}

int64_t device_dry_memory(const struct device *dry)
{
    CHECK(dry->dry);
    struct device_memory memory = device_memory(dry);
    return (int64_t)(dry->dry_of_host ? memory.taken : memory.peak);
}

void device_close(struct device *d)
{
    if (!d)
        return;
    device_synchronize(d);
    if (d->recorded_pool)
        pool_free(d->recorded_pool);
    pool_free(d->pool);
    if (d->backend->close)
        d->backend->close(d);
    free(d);
}
