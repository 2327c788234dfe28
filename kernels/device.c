#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/pool.h"

void *device_allocate(struct device *d, size_t bytes, size_t *granted)
{
    void *data = pool_take(d->pool, bytes, granted);
    if (!data)
        die("out of memory: %zu MB more wanted, %zu MB in use", bytes >> 20,
            device_memory(d).in_use >> 20);
    return data;
}

void device_release(struct device *d, void *data, size_t granted)
{
    pool_give(d->pool, data, granted);
}

void device_trim(struct device *d)
{
    pool_trim(d->pool);
}

struct device_memory device_memory(const struct device *d)
{
    return pool_memory(d->pool);
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
    d->host_memory = host_memory;
    d->pool = pool_new(d);
    return d;
}

int device_open(struct device **out, const char *spec, struct error *e)
{
    const struct backend *backend = NULL;
    if (!strcmp(spec, "ref"))
        backend = backend_table(false);
    else if (!strcmp(spec, "cpu") || !strcmp(spec, "auto"))
        backend = backend_table(true);
    else if (!strncmp(spec, "cuda", 4) && (!spec[4] || spec[4] == ':'))
        return error_set(e, "this build has no CUDA backend");
    else
        return error_set(e, "no such device (auto, cpu, cuda or cuda:N)");
    *out = device_new(backend, true);
    return 0;
}

struct device *device_open_dry(void)
{
    static struct backend dry;
    if (!dry.name)
        dry_backend_init(&dry);
    return device_new(&dry, false);
}

void device_close(struct device *d)
{
    if (!d)
        return;
    pool_free(d->pool);
    free(d);
}
