#include "kernels/device.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

/* The pool keeps idle blocks sorted by size. A request takes the smallest block that is large
 * enough and not wastefully larger; sizes are rounded up so that nearly equal requests share
 * blocks. */
struct block {
    void *data;
    size_t bytes;
};
struct pool {
    struct block *idle;
    size_t count, capacity;
    struct device_memory memory;
};

#define IDLE_SLACK ((size_t)256 << 20)

static size_t round_up(size_t bytes)
{
    size_t step = bytes >= (1u << 20) ? (1u << 16) : 4096;
    return bytes ? (bytes + step - 1) / step * step : step;
}

static size_t first_not_smaller(const struct pool *p, size_t bytes)
{
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (p->idle[middle].bytes < bytes)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *device_allocate(struct device *d, size_t bytes, size_t *granted)
{
    struct pool *p = d->pool;
    bytes = round_up(bytes);
    size_t i = first_not_smaller(p, bytes);
    void *data = NULL;
    if (i < p->count && p->idle[i].bytes <= bytes + bytes / 8) {
        data = p->idle[i].data;
        bytes = p->idle[i].bytes;
        memmove(p->idle + i, p->idle + i + 1, (p->count - i - 1) * sizeof *p->idle);
        p->count--;
        p->memory.idle -= bytes;
    } else {
        /* Idle blocks of other sizes make room before the total grows far past what was needed. */
        if (p->memory.in_use + p->memory.idle + bytes > p->memory.peak + IDLE_SLACK)
            device_trim(d);
        data = d->backend->allocate(d, bytes);
        if (!data) {
            device_trim(d);
            data = d->backend->allocate(d, bytes);
        }
        if (!data)
            die("out of memory: %zu MB more wanted, %zu MB in use", bytes >> 20,
                p->memory.in_use >> 20);
    }
    p->memory.in_use += bytes;
    if (p->memory.in_use > p->memory.peak)
        p->memory.peak = p->memory.in_use;
    *granted = bytes;
    return data;
}

void device_release(struct device *d, void *data, size_t bytes)
{
    struct pool *p = d->pool;
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->idle = xrealloc(p->idle, p->capacity * sizeof *p->idle);
    }
    size_t i = first_not_smaller(p, bytes);
    memmove(p->idle + i + 1, p->idle + i, (p->count - i) * sizeof *p->idle);
    p->idle[i] = (struct block){data, bytes};
    p->count++;
    p->memory.in_use -= bytes;
    p->memory.idle += bytes;
}

void device_trim(struct device *d)
{
    struct pool *p = d->pool;
    for (size_t i = 0; i < p->count; i++)
        d->backend->deallocate(d, p->idle[i].data);
    p->count = 0;
    p->memory.idle = 0;
}

struct device_memory device_memory(const struct device *d)
{
    return d->pool->memory;
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
    d->pool = xcalloc(1, sizeof *d->pool);
    d->host_memory = host_memory;
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
    device_trim(d);
    free(d->pool->idle);
    free(d->pool);
    free(d);
}
