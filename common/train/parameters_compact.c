#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/parameters_internal.h"

const void *parameters_compact(const struct parameters *p, struct tensor *weight)
{
    const float *weights = p->arrays[ARRAY_WEIGHTS]->data;
    int64_t first = (const float *)weight->data - weights, count = tensor_count(weight);
    struct tensor *gradient = weight->gradient->value;
    CHECK(!p->micro_gradients && weight->working && weight->gradient->parameter);
    for (int i = 0; i < p->trained_count; i++) { /* a stack is several */
        struct parameter *t = &p->tensors[i];
        if (t->offset < first || t->offset >= first + count)
            continue;
        t->compact_type = weight->working->dtype;
        t->compact = (const char *)gradient->data +
                     (t->offset - first) * (int64_t)dtype_size(t->compact_type);
    }
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

/* Kernels [co, ci, kh, kw] lie as [co, kh, kw, ci]; matrices as they are. */
static void spread(const struct parameters *p, const struct parameter *t, int64_t first,
                   int64_t count, float *host)
{
    size_t bytes = (size_t)t->count * dtype_size(t->compact_type);
    void *raw = xmalloc(bytes);
    float *values = xmalloc((size_t)t->count * sizeof *values);
    p->device->backend->download(p->device, raw, t->compact, bytes);
    dtype_to_f32(values, t->compact_type, raw, (size_t)t->count);
    int64_t channels = t->shape[1], window = t->ndim == 4 ? t->shape[2] * t->shape[3] : 1;
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
