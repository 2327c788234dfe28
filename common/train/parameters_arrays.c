#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/parameters_internal.h"

struct tensor *parameters_array(const struct parameters *p, int64_t count)
{
    struct tensor *t = tensor_new(p->device, DTYPE_F32, DIMS(count > 0 ? count : 1));
    struct fill_args zero = {tensor_count(t), t->data, 0};
    p->device->backend->fill(p->device, &zero);
    return t;
}

struct tensor *parameters_doubles(const struct parameters *p, int64_t count)
{
    return tensor_new(p->device, DTYPE_I64, DIMS(count > 0 ? count : 1)); /* of the same size */
}

static bool is_sharded(const struct parameters *p, enum parameter_array which)
{
    return parameters_are_sharded(p) && which != ARRAY_WEIGHTS;
}

/* Copies what this rank has of a whole array into its own slices, or back. */
static void copy_slices(struct parameters *p, struct tensor *whole, struct tensor *own, bool back)
{
    for (int b = 0; b < p->slices.buckets; b++) {
        struct slice s = slices_at(&p->slices, b, p->slices.shard);
        if (s.count == 0)
            continue;
        struct tensor *there = tensor_slice(whole, s.first, s.count);
        struct tensor *here = tensor_slice(own, s.local, s.count);
        tensor_copy(back ? there : here, back ? here : there);
        tensor_release(there);
        tensor_release(here);
    }
}

static void take_in(struct parameters *p, int64_t first, int64_t count, int64_t local)
{
    struct moving_average_args args = {
        count,
        (float *)p->arrays[ARRAY_EMA]->data + local,
        (const float *)p->arrays[ARRAY_WEIGHTS]->data + first,
        p->ema_decay_before,
    };
    if (count > 0)
        p->device->backend->moving_average(p->device, &args);
}

void parameters_settle_ema(struct parameters *p)
{
    if (!p->ema_is_behind)
        return;
    p->ema_is_behind = false;
    if (!is_sharded(p, ARRAY_EMA)) {
        take_in(p, 0, p->trained_elements, 0);
        return;
    }
    for (int b = 0; b < p->slices.buckets; b++) {
        struct slice s = slices_at(&p->slices, b, p->slices.shard);
        take_in(p, s.first, s.count, s.local);
    }
}

void parameters_restart_ema(struct parameters *p)
{
    parameters_allocate(p);
    p->ema_is_behind = false;
    if (is_sharded(p, ARRAY_EMA))
        copy_slices(p, p->arrays[ARRAY_WEIGHTS], p->arrays[ARRAY_EMA], false);
    else
        tensor_copy(p->arrays[ARRAY_EMA], p->arrays[ARRAY_WEIGHTS]);
}

void parameters_allocate(struct parameters *p)
{
    const struct collective *c = p->collective;
    if (p->arrays[ARRAY_EMA])
        return;
    slices_init(&p->slices, p->trained_elements, c->shard, c->shards);
    for (int i = ARRAY_EMA; i < ARRAY_COUNT; i++) {
        int64_t whole = i == ARRAY_EMA ? p->elements : p->trained_elements;
        p->arrays[i] = parameters_array(p, is_sharded(p, i) ? slices_owned(&p->slices) : whole);
    }
    parameters_restart_ema(p);
}

/* Before an array other than the weights is read. */
static void prepare(struct parameters *p, enum parameter_array which)
{
    parameters_allocate(p);
    if (which == ARRAY_EMA)
        parameters_settle_ema(p);
}

struct tensor *parameters_whole(const struct parameters *p, enum parameter_array which)
{
    if (which != ARRAY_WEIGHTS)
        prepare((struct parameters *)p, which);
    struct tensor *t = which == ARRAY_EMA && p->whole_ema ? p->whole_ema : p->arrays[which];
    CHECK(!is_sharded(p, which) || t == p->whole_ema);
    return t;
}

void parameters_gather_ema(struct parameters *p)
{
    prepare(p, ARRAY_EMA);
    if (!is_sharded(p, ARRAY_EMA) || p->whole_ema)
        return;
    int64_t *bounds = xcalloc((size_t)p->slices.shards + 1, sizeof *bounds);
    p->whole_ema = parameters_array(p, p->elements);
    tensor_copy(p->whole_ema, p->arrays[ARRAY_WEIGHTS]); /* fixed tensors have no average */
    copy_slices(p, p->whole_ema, p->arrays[ARRAY_EMA], true);
    for (int b = 0; b < p->slices.buckets; b++) {
        slices_bounds(&p->slices, b, bounds);
        float *first = (float *)p->whole_ema->data + slices_bucket(&p->slices, b);
        struct share_slices_args share = {first, bounds, sizeof *first};
        collective_share_slices(p->collective, p->device, &share);
    }
    collective_join(p->collective, p->device);
    free(bounds);
}

void parameters_drop_ema(struct parameters *p)
{
    tensor_release(p->whole_ema);
    p->whole_ema = NULL;
}

/* What a rank may ask all others for; which < 0: nothing more. */
struct request {
    int64_t net, which, first, count;
};

/* Calls f for each part of the elements that is in one slice. */
static void for_parts(const struct parameters *p, const struct request *r,
                      void (*f)(const struct parameters *p, const struct request *r, int shard,
                                struct slice part, float *host),
                      float *host)
{
    const struct slices *slices = &p->slices;
    int end = slices_bucket_of(slices, r->first + r->count - 1) + 1;
    for (int b = slices_bucket_of(slices, r->first); b < end; b++)
        for (int shard = 0; shard < slices->shards; shard++) {
            struct slice part = slice_part(slices_at(slices, b, shard), r->first, r->count);
            if (part.count > 0)
                f(p, r, shard, part, host + part.first - r->first);
        }
}

/* The first rank with this shard sends it, the first of all receives it. */
static void send_part(const struct parameters *p, const struct request *r, int shard,
                      struct slice part, float *host)
{
    size_t bytes = (size_t)part.count * sizeof *host;
    prepare((struct parameters *)p, r->which);
    if (p->collective->rank == shard)
        p->device->backend->download(p->device, host,
                                     (const float *)p->arrays[r->which]->data + part.local, bytes);
    if (shard > 0)
        collective_broadcast(p->collective, shard, host, bytes);
}

static void ask(const struct parameters *p, struct request *r)
{
    collective_broadcast(p->collective, 0, r, sizeof *r);
}

const float *parameters_read(const struct parameters *p, enum parameter_array which, int64_t first,
                             int64_t count, float *scratch)
{
    if (which == ARRAY_EMA && first >= p->trained_elements) /* fixed: EMA is the weight */
        which = ARRAY_WEIGHTS;
    if (which != ARRAY_WEIGHTS)
        prepare((struct parameters *)p, which);
    if (is_sharded(p, which)) {
        struct request r = {p->net, which, first, count};
        CHECK(first >= 0 && count >= 0 && first + count <= p->trained_elements && scratch);
        ask(p, &r);
        for_parts(p, &r, send_part, scratch);
        return scratch;
    }
    CHECK(first >= 0 && count >= 0 && first + count <= tensor_count(p->arrays[which]));
    const float *at = (const float *)p->arrays[which]->data + first;
    if (p->device->host_memory)
        return at;
    p->device->backend->download(p->device, scratch, at, (size_t)count * sizeof *at);
    if (which == ARRAY_GRADIENTS)
        parameters_spread(p, first, count, scratch);
    return scratch;
}

void parameters_serve(const struct parameters *p)
{
    struct request r;
    float *scratch = NULL;
    if (!parameters_are_sharded(p))
        return;
    for (ask(p, &r); r.which >= 0; ask(p, &r)) {
        const struct parameters *of = r.net == (int64_t)p->net ? p : p->companion;
        CHECK(of && r.net == (int64_t)of->net);
        scratch = xrealloc(scratch, (size_t)r.count * sizeof *scratch);
        for_parts(of, &r, send_part, scratch);
    }
    free(scratch);
}

void parameters_serve_end(const struct parameters *p)
{
    struct request end = {.which = -1};
    if (parameters_are_sharded(p))
        ask(p, &end);
}

static void write_elements(struct parameters *p, enum parameter_array which, int64_t at,
                           int64_t count, const float *host)
{
    CHECK(at >= 0 && count >= 0 && at + count <= tensor_count(p->arrays[which]));
    p->device->backend->upload(p->device, (float *)p->arrays[which]->data + at, host,
                               (size_t)count * sizeof *host);
}

static void take_part(const struct parameters *p, const struct request *r, int shard,
                      struct slice part, float *host)
{
    if (shard == p->slices.shard)
        write_elements((struct parameters *)p, r->which, part.local, part.count, host);
}

void parameters_write(struct parameters *p, enum parameter_array which, int64_t first,
                      int64_t count, const float *host)
{
    if (which != ARRAY_WEIGHTS)
        parameters_allocate(p);
    if (which == ARRAY_WEIGHTS || which == ARRAY_EMA)
        parameters_settle_ema(p);
    CHECK(which != ARRAY_GRADIENTS || !parameters_any_compact(p, first, count));
    struct request r = {p->net, which, first, count};
    if (is_sharded(p, which))
        for_parts(p, &r, take_part, (float *)host);
    else
        write_elements(p, which, first, count, host);
}
