#include "common/train/collective_grouped.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

struct grouped {
    struct collective collective;
    struct collective *host;
    struct device *device;
};

static const struct group_functions *group_of(const struct device *d)
{
    return d->backend->group;
}

static struct collective *host_of(const struct collective *c)
{
    return ((const struct grouped *)c)->host;
}

static void gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    collective_gather(host_of(c), own, all, bytes);
}

static void broadcast(struct collective *c, int root, void *data, size_t bytes)
{
    collective_broadcast(host_of(c), root, data, bytes);
}

static void sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    CHECK(d == ((struct grouped *)c)->device);
    group_of(d)->sum_slices(d, a);
}

static void share_slices(struct collective *c, struct device *d, const struct share_slices_args *a)
{
    CHECK(d == ((struct grouped *)c)->device);
    group_of(d)->share_slices(d, a);
}

static void join(struct collective *c, struct device *d)
{
    group_of(d)->join(d);
}

static void barrier(struct collective *c)
{
    collective_barrier(host_of(c));
}

static void patient(struct collective *c, bool on)
{
    struct collective *host = host_of(c);
    if (host->functions->patient)
        host->functions->patient(host, on);
}

static void waiting(struct collective *c, bool on)
{
    struct collective *host = host_of(c);
    if (host->functions->waiting)
        host->functions->waiting(host, on);
}

static void close_grouped(struct collective *c)
{
    struct grouped *g = (struct grouped *)c;
    group_of(g->device)->close(g->device);
    collective_close(g->host);
    free(g);
}

/* What every rank tells the others: ids for groups to which it is the first to belong. */
struct introduction {
    unsigned char host_id[GROUP_ID_BYTES], shard_id[GROUP_ID_BYTES];
    char problem[600]; /* empty: none */
};

static void introduce(struct introduction *own, const struct group_functions *group,
                      const struct group_options *o)
{
    const char *problem = NULL;
    *own = (struct introduction){.problem = ""};
    if (!group)
        problem = "the device cannot communicate with others";
    if (!problem && o->shard == 0 && o->shards > 1)
        problem = group->new_id(own->host_id);
    if (!problem && o->host == 0 && o->hosts > 1)
        problem = group->new_id(own->shard_id);
    if (problem)
        snprintf(own->problem, sizeof own->problem, "%s", problem);
}

/* Exchanges the groups' ids. */
static int meet(struct group_options *o, struct collective *host, const struct device *d,
                struct error *e)
{
    struct introduction own, *all = xcalloc((size_t)host->size, sizeof *all);
    int status = 0;
    introduce(&own, group_of(d), o);
    collective_gather(host, &own, all, sizeof own);
    memcpy(o->host_id, all[o->host * o->shards].host_id, sizeof o->host_id);
    memcpy(o->shard_id, all[o->shard].shard_id, sizeof o->shard_id);
    for (int r = host->size - 1; r >= 0; r--)
        if (all[r].problem[0])
            status = error_set(e, "rank %d: %s", r, all[r].problem);
    free(all);
    return status;
}

int collective_grouped(struct collective **out, struct collective *host, struct device *d,
                       int shards, struct error *e)
{
    static const struct collective_functions functions = {
        .name = "grouped",
        .gather = gather,
        .broadcast = broadcast,
        .sum_slices = sum_slices,
        .share_slices = share_slices,
        .join = join,
        .barrier = barrier,
        .patient = patient,
        .waiting = waiting,
        .close = close_grouped,
    };
    if (shards < 1 || host->size % shards != 0)
        shards = host->size;
    struct group_options o = {
        .shard = host->rank % shards,
        .shards = shards,
        .host = host->rank / shards,
        .hosts = host->size / shards,
    };
    if (meet(&o, host, d, e) != 0)
        return -1;
    const char *problem = group_of(d)->open(d, &o);
    if (problem)
        return error_set(e, "rank %d: %s", host->rank, problem);
    struct grouped *g = xcalloc(1, sizeof *g);
    *g = (struct grouped){.host = host, .device = d};
    g->collective = (struct collective){
        .functions = &functions,
        .rank = host->rank,
        .size = host->size,
        .shard = o.shard,
        .shards = shards,
    };
    *out = &g->collective;
    return 0;
}
