#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/parameters_internal.h"

static struct parameter *at_offset(const struct parameters *p, int64_t offset)
{
    for (int i = 0; i < p->trained_count; i++)
        if (p->tensors[i].offset == offset)
            return &p->tensors[i];
    return NULL;
}

const void *parameters_compact(const struct parameters *p, struct tensor *weight)
{
    const float *weights = p->arrays[ARRAY_WEIGHTS]->data;
    struct parameter *t = at_offset(p, (const float *)weight->data - weights);
    struct tensor *gradient = weight->gradient->value;
    CHECK(t && !p->micro_gradients && weight->working && weight->gradient->parameter);
    t->compact = true;
    t->compact_type = weight->working->dtype;
    gradient->dtype = weight->working->dtype;
    gradient->channels_last = weight->working->channels_last;
    return gradient->data;
}

static bool overlaps(const struct parameter *t, int64_t first, int64_t count)
{
    return t->compact && t->offset < first + count && first < t->offset + t->count;
}

bool parameters_any_compact(const struct parameters *p, int64_t first, int64_t count)
{
    for (int i = 0; i < p->trained_count; i++)
        if (overlaps(&p->tensors[i], first, count))
            return true;
    return false;
}

/* Kernels [co, ci, kh, kw] lie as [co, kh, kw, ci]. */
static void spread(const struct parameters *p, const struct parameter *t, int64_t first,
                   int64_t count, float *host)
{
    const float *gradients = p->arrays[ARRAY_GRADIENTS]->data;
    size_t bytes = (size_t)t->count * dtype_size(t->compact_type);
    void *raw = xmalloc(bytes);
    float *values = xmalloc((size_t)t->count * sizeof *values);
    p->device->backend->download(p->device, raw, gradients + t->offset, bytes);
    dtype_to_f32(values, t->compact_type, raw, (size_t)t->count);
    int64_t channels = t->shape[1], window = t->shape[2] * t->shape[3];
    for (int64_t i = 0; i < t->count; i++) {
        int64_t in = i % (channels * window), to = t->offset + i - first;
        if (to >= 0 && to < count)
            host[to] = values[i - in + in % window * channels + in / window];
    }
    free(values);
    free(raw);
}

void parameters_spread(const struct parameters *p, int64_t first, int64_t count, float *host)
{
    for (int i = 0; i < p->trained_count; i++)
        if (overlaps(&p->tensors[i], first, count))
            spread(p, &p->tensors[i], first, count, host);
}
