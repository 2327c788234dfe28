#include "common/train/updater.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/muon.h"

#define LOSS_SCALE_FIRST    65536.0
#define LOSS_SCALE_PATIENCE 2000

/* Elements of [first, first + count) that are in a bucket. */
static int64_t in_bucket(const struct slices *s, int bucket, int64_t first, int64_t count)
{
    int64_t begin = slices_bucket(s, bucket), end = slices_bucket(s, bucket + 1);
    return slice_part((struct slice){begin, end - begin, 0}, first, count).count;
}

static void sum_bucket(struct updater *u, int bucket)
{
    struct parameters *p = u->parameters;
    const struct slices *s = &p->slices;
    u->missing[bucket] = 0;
    if (!p->micro_gradients || u->direct)
        return;
    slices_bounds(s, bucket, u->bounds);
    struct sum_slices_args sum = {
        .own = (const float *)p->micro_gradients->data + slices_bucket(s, bucket),
        .total = (float *)p->arrays[ARRAY_GRADIENTS]->data + slices_at(s, bucket, s->shard).local,
        .bounds = u->bounds,
        .first = u->added == 0,
    };
    collective_sum_slices(u->collective, p->device, &sum);
}

static void note_completion(struct updater *u, int64_t first, int64_t count)
{
    const struct parameters *p = u->parameters;
    for (int i = 0; u->completion && i < p->trained_count; i++)
        if (p->tensors[i].offset >= first && p->tensors[i].offset < first + count)
            u->completion[i] = u->completed;
    u->completed++;
}

/* A watcher of tapes. */
static void on_complete(void *context, const struct gradient *g)
{
    struct updater *u = context;
    const struct parameters *p = u->parameters;
    const struct tensor *all =
        p->micro_gradients && !u->direct ? p->micro_gradients : p->arrays[ARRAY_GRADIENTS];
    int64_t first = (const float *)g->value->data - (const float *)all->data;
    int64_t count = tensor_count(g->value);
    CHECK(first >= 0 && first + count <= p->trained_elements);
    note_completion(u, first, count);
    int end = slices_bucket_of(&p->slices, first + count - 1) + 1;
    for (int b = slices_bucket_of(&p->slices, first); b < end; b++) {
        int64_t now = in_bucket(&p->slices, b, first, count);
        CHECK(u->missing[b] >= now); /* else a gradient has changed after it was sent */
        u->missing[b] -= now;
        if (u->missing[b] == 0)
            sum_bucket(u, b);
    }
}

static void expect_all(struct updater *u)
{
    const struct parameters *p = u->parameters;
    for (int b = 0; b < p->slices.buckets; b++)
        u->missing[b] = 0;
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        int end = slices_bucket_of(&p->slices, t->offset + t->count - 1) + 1;
        for (int b = slices_bucket_of(&p->slices, t->offset); b < end; b++)
            u->missing[b] += in_bucket(&p->slices, b, t->offset, t->count);
    }
}

void updater_init(struct updater *u, struct parameters *p, struct collective *c,
                  const struct adamw_options *adamw, double clip, int64_t accumulate)
{
    if (!p->arrays[ARRAY_EMA])
        parameters_place(p, c, NULL);
    CHECK(p->slices.shards == c->shards && p->slices.shard == c->shard);
    if (accumulate * c->size > 1)
        parameters_split_gradients(p);
    double scale = p->device->compute == DTYPE_F16 ? LOSS_SCALE_FIRST : 1;
    *u = (struct updater){.parameters = p,
                          .collective = c,
                          .adamw = *adamw,
                          .clip = clip,
                          .loss_scale = {.scale = scale}};
    u->watcher = (struct tape_watcher){on_complete, u};
    u->missing = xcalloc((size_t)p->slices.buckets + 1, sizeof *u->missing);
    u->bounds = xcalloc((size_t)c->shards + 1, sizeof *u->bounds);
    u->squares = parameters_doubles(p, squares_segments(p->trained_elements));
    expect_all(u);
}

void updater_use_muon(struct updater *u)
{
    CHECK(u->parameters->kernels_first);
    u->muon = muon_new(u->parameters, u->collective);
}

void updater_release(struct updater *u)
{
    muon_free(u->muon);
    tensor_release((struct tensor *)u->copies.table);
    tensor_release(u->squares);
    free(u->missing);
    free(u->bounds);
    *u = (struct updater){0};
}

static int by_first(const void *a, const void *b)
{
    const struct update_copy *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Whether Muon updates this element of the whole array. */
static bool is_stepped(const struct updater *u, int64_t element)
{
    return u->muon && element < u->parameters->kernel_elements;
}

/* Of a weight with its working copy, and with a compact gradient where nothing but one product of
 * the backward pass writes it. */
static struct update_copy copy_of(struct updater *u, const struct loaded *item, int64_t first)
{
    struct tensor *weight = item->tensor;
    const struct tensor *copy = weight->working;
    int64_t count = tensor_count(weight), size = (int64_t)dtype_size(copy->dtype);
    struct update_copy c = {first, count, copy->data, NULL, 1, count, copy->dtype};
    u->copies.bytes += count * size;
    if (copy->channels_last) {
        c.window = weight->shape[2] * weight->shape[3];
        c.channels = weight->shape[1];
    }
    bool product = item->matrix && !item->table && !is_stepped(u, first);
    if (product && !u->parameters->micro_gradients && weight->gradient) {
        c.gradient = parameters_compact(u->parameters, weight);
        u->copies.spared += count * ((int64_t)sizeof(float) - size);
    }
    return c;
}

void updater_write_copies(struct updater *u, const struct loader *l)
{
    const struct parameters *p = u->parameters;
    const float *weights = p->arrays[ARRAY_WEIGHTS]->data;
    if (u->collective->size > 1)
        return;
    struct update_copy *table = xcalloc((size_t)l->count + 1, sizeof *table);
    u->copies = (struct update_copies){0};
    for (int i = 0; i < l->count; i++) {
        struct tensor *weight = l->items[i].tensor;
        int64_t first = (const float *)weight->data - weights;
        if (weight->working && first < p->trained_elements)
            table[u->copies.count++] = copy_of(u, &l->items[i], first);
    }
    int64_t count = u->copies.count;
    if (count > 0) {
        qsort(table, (size_t)count, sizeof *table, by_first);
        struct tensor *t = tensor_new(p->device, DTYPE_I64, DIMS(count, UPDATE_COPY_WORDS));
        tensor_upload(t, table);
        u->copies.table = t;
    }
    free(table);
}

void updater_fetch(struct updater *u, const struct tensor *t, float *to)
{
    u->fetch = t;
    u->fetched = to;
}

void updater_aim(struct updater *u, struct loader *l)
{
    if (!u->parameters->micro_gradients)
        return;
    u->direct = u->collective->size == 1 && u->added == 0;
    parameters_aim(u->parameters, l, u->direct);
}

void updater_watch(struct updater *u, struct tape *t)
{
    t->watcher = &u->watcher;
}

void updater_sum(struct updater *u)
{
    for (int b = 0; b < u->parameters->slices.buckets; b++)
        if (u->missing[b] > 0)
            sum_bucket(u, b);
    collective_join(u->collective, u->parameters->device);
    expect_all(u);
}

void updater_count(struct updater *u)
{
    u->added++;
}

void updater_record_completion(struct updater *u, int *completion)
{
    for (int i = 0; i < u->parameters->trained_count; i++)
        completion[i] = INT_MAX;
    u->completion = completion;
    u->completed = 0;
}

void updater_set_loss_scale(struct updater *u, struct loss_scale l)
{
    CHECK(l.scale >= 1 && l.scale <= LOSS_SCALE_MOST);
    u->loss_scale = l;
}

/* What this rank updates: its slice of each bucket, or everything at once if it is the only
 * one. */
static int owned(const struct updater *u)
{
    return u->collective->size == 1 ? 1 : u->parameters->slices.buckets;
}

static struct slice owned_at(const struct updater *u, int i)
{
    const struct slices *s = &u->parameters->slices;
    return u->collective->size == 1 ? (struct slice){0, s->elements, 0} : slices_at(s, i, s->shard);
}

/* The sums of the whole gradient's squares, of which each rank computes those of its slices. */
static void find_squares(struct updater *u)
{
    const struct parameters *p = u->parameters;
    const struct slices *s = &p->slices;
    double *squares = u->squares->data;
    for (int b = 0; b < owned(u); b++) {
        struct slice own = owned_at(u, b);
        struct square_sums_args args = {
            .count = own.count,
            .x = (const float *)p->arrays[ARRAY_GRADIENTS]->data + own.local,
            .sums = squares + own.first / SQUARES_SEGMENT,
            .copies = u->copies.spared > 0 ? &u->copies : NULL,
        };
        p->device->backend->square_sums(p->device, &args);
        if (u->collective->size == 1)
            break;
        slices_bounds(s, b, u->bounds);
        for (int i = 0; i <= s->shards; i++)
            u->bounds[i] = squares_segments(u->bounds[i]);
        struct share_slices_args share = {squares + slices_bucket(s, b) / SQUARES_SEGMENT,
                                          u->bounds, sizeof *squares};
        collective_share_slices(u->collective, p->device, &share);
    }
    collective_join(u->collective, p->device);
}

/* Elements that lie together in all arrays, all with weight decay or all without, all by Muon or by
 * AdamW. */
static void update_elements(struct updater *u, const struct update_args *all, int64_t first,
                            int64_t count, int64_t local)
{
    const struct parameters *p = u->parameters;
    struct update_args part = *all;
    if (count == 0)
        return;
    bool stepped = is_stepped(u, first);
    part.count = count;
    part.first = first;
    part.parameter = (float *)p->arrays[ARRAY_WEIGHTS]->data + first;
    part.m = stepped ? NULL : (float *)p->arrays[ARRAY_M]->data + local;
    part.v = stepped ? NULL : (float *)p->arrays[ARRAY_V]->data + local;
    part.ema = all->ema_is_behind ? (float *)p->arrays[ARRAY_EMA]->data + local : NULL;
    part.gradient =
        stepped ? u->steps + first : (const float *)p->arrays[ARRAY_GRADIENTS]->data + local;
    part.weight_decay = first < p->decayed_elements ? all->weight_decay : 0;
    p->device->backend->update(p->device, &part);
}

static void update_slice(struct updater *u, const struct update_args *args, struct slice s)
{
    const struct parameters *p = u->parameters;
    int64_t bounds[] = {u->muon ? p->kernel_elements : 0, p->decayed_elements, INT64_MAX};
    int64_t done = 0;
    for (int i = 0; i < 3; i++) {
        int64_t end = bounds[i] - s.first;
        end = end < done ? done : end < s.count ? end : s.count;
        update_elements(u, args, s.first + done, end - done, s.local + done);
        done = end;
    }
}

static void share_weights(struct updater *u, int bucket)
{
    const struct parameters *p = u->parameters;
    slices_bounds(&p->slices, bucket, u->bounds);
    float *weights = (float *)p->arrays[ARRAY_WEIGHTS]->data + slices_bucket(&p->slices, bucket);
    struct share_slices_args share = {weights, u->bounds, sizeof *weights};
    collective_share_slices(u->collective, p->device, &share);
}

/* args: of all updates. */
static void update_slices(struct updater *u, const struct update_args *args, bool alone)
{
    for (int b = 0; b < owned(u); b++) {
        update_slice(u, args, owned_at(u, b));
        if (!alone)
            share_weights(u, b);
    }
    collective_wait(u->collective, u->parameters->device);
}

/* By which the update multiplies gradients. */
static double gradient_scale(const struct updater *u, double norm)
{
    double clipped = u->clip > 0 && norm > u->clip ? u->clip / norm : 1;
    return clipped / u->loss_scale.scale;
}

void updater_apply(struct updater *u, double learning_rate, double ema_decay,
                   struct update_result *result)
{
    struct parameters *p = u->parameters;
    u->added = 0;
    find_squares(u);
    struct update_args args = {
        .learning_rate = learning_rate,
        .beta1 = u->adamw.beta1,
        .beta2 = u->adamw.beta2,
        .epsilon = u->adamw.epsilon,
        .weight_decay = u->adamw.weight_decay,
        .ema_decay = ema_decay,
        .loss_scale = u->loss_scale.scale,
        .clip = u->clip,
        .step = p->updates + 1,
        .squares = u->squares->data,
        .squares_count = squares_segments(p->trained_elements),
        .copies = u->copies.table ? &u->copies : NULL,
        .ema_is_behind = p->ema_is_behind,
        .ema_decay_before = p->ema_decay_before,
    };
    struct update_args with_result = args;
    *result = (struct update_result){0};
    with_result.result = result;
    with_result.fetch = u->fetch;
    with_result.fetched = u->fetched;
    bool alone = u->collective->size == 1 && p->trained_elements > 0;
    if (u->muon) { /* whose momentum must not take in what is not finite */
        p->device->backend->update(p->device, &with_result);
        if (result->applied || p->device->dry) {
            u->steps = muon_steps(u->muon, gradient_scale(u, result->gradient_norm));
            update_slices(u, &args, alone);
        }
    } else if (alone) {
        update_slices(u, &with_result, alone);
    } else { /* at the end nothing to update, but the result to get */
        update_slices(u, &args, alone);
        p->device->backend->update(p->device, &with_result);
    }
    collective_join(u->collective, p->device);
    u->fetch = NULL;
    if (!result->applied)
        return;
    p->updates++;
    p->ema_is_behind = !p->ema_is_behind;
    p->ema_decay_before = ema_decay;
}

bool updater_adjust_loss_scale(struct updater *u, bool applied)
{
    struct loss_scale *l = &u->loss_scale;
    if (u->parameters->device->compute != DTYPE_F16)
        return false;
    if (applied) {
        if (++l->updates >= LOSS_SCALE_PATIENCE && l->scale < LOSS_SCALE_MOST)
            *l = (struct loss_scale){2 * l->scale, 0};
        return false;
    }
    bool was_scaled = l->scale > 1;
    *l = (struct loss_scale){fmax(1, l->scale / 2), 0};
    return was_scaled;
}
