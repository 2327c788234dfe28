#include "common/train/collective.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static void alone_gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    memcpy(all, own, bytes);
}

static void alone_broadcast(struct collective *c, int root, void *data, size_t bytes)
{
}

static struct tensor *borrowed(struct device *d, const float *data, int64_t count)
{
    return tensor_borrow(d, DTYPE_F32, DIMS(count), (void *)data);
}

static void alone_sum_slices(struct collective *c, struct device *d,
                             const struct sum_slices_args *a)
{
    int64_t count = a->bounds[c->shard + 1] - a->bounds[c->shard];
    if (count == 0)
        return;
    struct tensor *own = borrowed(d, a->own + a->bounds[c->shard], count);
    struct tensor *total = borrowed(d, a->total, count);
    if (a->first)
        tensor_copy(total, own);
    else
        tensor_add(total, own);
    tensor_release(own);
    tensor_release(total);
}

static void alone_share_slices(struct collective *c, struct device *d,
                               const struct share_slices_args *a)
{
}

static void alone_barrier(struct collective *c)
{
}

struct collective *collective_alone(void)
{
    static const struct collective_functions functions = {
        .name = "alone",
        .gather = alone_gather,
        .broadcast = alone_broadcast,
        .sum_slices = alone_sum_slices,
        .share_slices = alone_share_slices,
        .barrier = alone_barrier,
    };
    static struct collective alone = {.functions = &functions, .size = 1, .shards = 1};
    return &alone;
}

static void dry_gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    for (int r = 0; r < c->size; r++)
        memcpy((char *)all + (size_t)r * bytes, own, bytes);
}

struct collective collective_dry(int size)
{
    static const struct collective_functions functions = {
        .name = "dry",
        .gather = dry_gather,
        .broadcast = alone_broadcast,
        .sum_slices = alone_sum_slices,
        .share_slices = alone_share_slices,
        .barrier = alone_barrier,
    };
    return (struct collective){.functions = &functions, .size = size, .shards = size};
}

void collective_gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    c->functions->gather(c, own, all, bytes);
}

void collective_broadcast(struct collective *c, int root, void *data, size_t bytes)
{
    c->functions->broadcast(c, root, data, bytes);
}

void collective_sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    c->functions->sum_slices(c, d, a);
}

void collective_share_slices(struct collective *c, struct device *d,
                             const struct share_slices_args *a)
{
    c->functions->share_slices(c, d, a);
}

void collective_join(struct collective *c, struct device *d)
{
    if (c->functions->join)
        c->functions->join(c, d);
}

void collective_sum(struct collective *c, double *x, int count)
{
    size_t n = (size_t)count;
    double *all = xcalloc(n * (size_t)c->size, sizeof *all);
    collective_gather(c, x, all, n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = all[i];
        for (size_t r = 1; r < (size_t)c->size; r++)
            x[i] += all[r * n + i];
    }
    free(all);
}

void collective_barrier(struct collective *c)
{
    c->functions->barrier(c);
}

void collective_wait(struct collective *c, struct device *d)
{
    if (c->size == 1 || d->host_memory)
        return;
    if (c->functions->waiting)
        c->functions->waiting(c, true);
    device_synchronize(d);
    if (c->functions->waiting)
        c->functions->waiting(c, false);
}

void collective_patient(struct collective *c, bool on)
{
    if (c->functions->patient && c->rank > 0)
        c->functions->patient(c, on);
}

void collective_close(struct collective *c)
{
    if (c && c->functions->close)
        c->functions->close(c);
}
