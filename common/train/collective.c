#include "common/train/collective.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static void alone_gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    memcpy(all, own, bytes);
}

static void alone_add(struct collective *c, struct tensor *total, const struct tensor *own,
                      bool first)
{
    if (first)
        tensor_copy(total, own);
    else
        tensor_add(total, own);
}

static void alone_barrier(struct collective *c)
{
}

struct collective *collective_alone(void)
{
    static const struct collective_functions functions = {
        .name = "alone", .gather = alone_gather, .add = alone_add, .barrier = alone_barrier};
    static struct collective alone = {.functions = &functions, .size = 1};
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
        .name = "dry", .gather = dry_gather, .add = alone_add, .barrier = alone_barrier};
    return (struct collective){.functions = &functions, .size = size};
}

void collective_gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    c->functions->gather(c, own, all, bytes);
}

void collective_add(struct collective *c, struct tensor *total, const struct tensor *own,
                    bool first)
{
    CHECK(tensor_count(total) == tensor_count(own));
    c->functions->add(c, total, own, first);
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

void collective_close(struct collective *c)
{
    if (c && c->functions->close)
        c->functions->close(c);
}
