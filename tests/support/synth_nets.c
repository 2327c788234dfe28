#include "tests/support/synth_nets.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/support/synth.h"

int64_t tensor_spec_count(const struct tensor_spec *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

void synth_fill(float *out, const struct tensor_spec *t, uint64_t seed, float gain)
{
    size_t n = (size_t)tensor_spec_count(t);
    if (t->kind == TENSOR_SCALAR) {
        out[0] = t->value;
        return;
    }
    synth_weight(out, t->name, t->ndim, t->shape, seed);
    for (size_t i = 0; t->kind == TENSOR_TRAINED && t->ndim >= 2 && i < n; i++)
        out[i] *= gain;
}

struct fill_job {
    const struct architecture *architecture;
    float **data;
    uint64_t seed;
    float gain;
};

static void fill_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct fill_job *j = arg;
    for (int64_t i = begin; i < end; i++)
        synth_fill(j->data[i], &j->architecture->items[i], j->seed, j->gain);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

void synth_named_weights(struct named_weights *out, float **memory, const struct architecture *p,
                         enum net net, uint64_t seed, float gain)
{
    size_t total = 0;
    float **data = xmalloc((size_t)p->count * sizeof *data);
    for (int i = 0; i < p->count; i++)
        total += (size_t)tensor_spec_count(&p->items[i]);
    *memory = xmalloc(total * sizeof(float));
    *out = (struct named_weights){.net = net, .count = p->count};
    out->items = xcalloc((size_t)p->count, sizeof *out->items);
    float *at = *memory;
    for (int i = 0; i < p->count; i++) {
        const struct tensor_spec *t = &p->items[i];
        struct weight *w = &out->items[i];
        data[i] = at;
        w->name = t->name;
        w->dtype = DTYPE_F32;
        w->ndim = t->ndim;
        memcpy(w->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
        w->data = at;
        weight_set_row_major(w);
        at += (size_t)tensor_spec_count(t);
    }
    struct fill_job j = {p, data, seed, gain};
    parallel_for(p->count, 1, fill_some, &j);
    free(data);
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
}
