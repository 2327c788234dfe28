#include "kernels/weight.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/device.h"

static bool wants_channels_last(const struct tensor *w)
{
    return w->ndim == 4 && w->shape[2] * w->shape[3] > 1;
}

static struct tensor *wanted_form(const struct tensor *w)
{
    struct tensor *t = tensor_new(w->device, w->device->compute, w->ndim, w->shape);
    t->channels_last = wants_channels_last(w);
    return t;
}

static bool is_wanted_form(const struct tensor *w)
{
    return w->dtype == w->device->compute && w->channels_last == wants_channels_last(w);
}

struct tensor *weight_from_host(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                                const void *host)
{
    struct tensor header = {.device = d, .dtype = dtype, .ndim = ndim};
    memcpy(header.shape, shape, (size_t)ndim * sizeof *shape);
    bool other_form = d->backend->convert_weights && !is_wanted_form(&header);
    if (other_form && d->backend->load_weight) {
        struct tensor *t = wanted_form(&header);
        d->backend->load_weight(d, &(struct load_weight_args){host, dtype, t});
        return t;
    }
    struct tensor *raw = tensor_new(d, dtype, ndim, shape);
    tensor_upload(raw, host);
    if (!other_form)
        return raw;
    struct tensor *t = wanted_form(raw);
    const struct tensor *from = raw;
    struct convert_weights_args args = {1, &from, &t};
    d->backend->convert_weights(d, &args);
    tensor_release(raw);
    return t;
}

void weights_refresh(struct device *d, struct tensor *const *weights, int count)
{
    if (!d->backend->convert_weights || count == 0)
        return;
    const struct tensor **from = xcalloc((size_t)count, sizeof *from);
    struct tensor **to = xcalloc((size_t)count, sizeof *to);
    struct convert_weights_args args = {.from = from, .to = to};
    for (int i = 0; i < count; i++) {
        if (is_wanted_form(weights[i]))
            continue;
        if (!weights[i]->working)
            weights[i]->working = wanted_form(weights[i]);
        from[args.count] = weights[i];
        to[args.count++] = weights[i]->working;
    }
    if (args.count > 0)
        d->backend->convert_weights(d, &args);
    free(from);
    free(to);
}
