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
    char **data;
    enum dtype dtype;
    uint64_t seed;
    float gain;
};

static void fill_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct fill_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const struct tensor_spec *t = &j->architecture->items[i];
        size_t count = (size_t)tensor_spec_count(t);
        float *values =
            j->dtype == DTYPE_F32 ? (float *)j->data[i] : xmalloc(count * sizeof(float));
        synth_fill(values, t, j->seed, j->gain);
        if (j->dtype == DTYPE_F32)
            continue;
        dtype_from_f32(j->dtype, j->data[i], values, count);
        free(values);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

void synth_named_weights(struct named_weights *out, void **memory, const struct architecture *p,
                         enum net net, enum dtype dtype, uint64_t seed, float gain)
{
    size_t total = 0;
    char **data = xmalloc((size_t)p->count * sizeof *data);
    for (int i = 0; i < p->count; i++)
        total += (size_t)tensor_spec_count(&p->items[i]);
    *memory = xmalloc(total * dtype_size(dtype));
    *out = (struct named_weights){.net = net, .count = p->count};
    out->items = xcalloc((size_t)p->count, sizeof *out->items);
    char *at = *memory;
    for (int i = 0; i < p->count; i++) {
        const struct tensor_spec *t = &p->items[i];
        struct weight *w = &out->items[i];
        data[i] = at;
        w->name = t->name;
        w->dtype = dtype;
        w->ndim = t->ndim;
        memcpy(w->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
        w->data = at;
        weight_set_row_major(w);
        at += (size_t)tensor_spec_count(t) * dtype_size(dtype);
    }
    struct fill_job j = {p, data, dtype, seed, gain};
    parallel_for(p->count, 1, fill_some, &j);
    free(data);
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
}
