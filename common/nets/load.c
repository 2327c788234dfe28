#include "common/nets/load.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "kernels/device.h"

#define NAME_MAX_LENGTH 256

void loader_init(struct loader *l, const struct named_weights *names, struct device *d,
                 struct error *e)
{
    *l = (struct loader){.device = d, .names = names, .error = e};
}

void loader_release(struct loader *l)
{
    for (int i = 0; i < l->count; i++)
        tensor_release(l->tensors[i]);
    free(l->tensors);
    free(l->taken);
    *l = (struct loader){0};
}

bool loader_has(const struct loader *l, const char *format, ...)
{
    char name[NAME_MAX_LENGTH];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return names_find(l->names, name) != NULL;
}

static struct tensor *take(struct loader *l, const struct weight *w, bool only_f32)
{
    for (int i = 0; i < l->count; i++)
        if (l->taken[i] == w) /* asked for before, to learn a size */
            return l->tensors[i];
    bool direct =
        w->dtype == DTYPE_F32 || (!only_f32 && (w->dtype == DTYPE_F16 || w->dtype == DTYPE_BF16));
    struct tensor *t;
    const struct device *at = l->names->device;
    bool here = at ? at == l->device : l->device->host_memory;
    if (direct && w->contiguous && here) {
        t = tensor_borrow(l->device, w->dtype, w->ndim, w->shape, w->data);
    } else {
        float *host = xmalloc((size_t)weight_count(w) * sizeof(float) + 1);
        weight_to_f32(w, host);
        t = tensor_from_f32(l->device, w->ndim, w->shape, host);
        free(host);
    }
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 256;
        l->tensors = xrealloc(l->tensors, (size_t)l->capacity * sizeof *l->tensors);
        l->taken = xrealloc(l->taken, (size_t)l->capacity * sizeof *l->taken);
    }
    l->taken[l->count] = w;
    l->tensors[l->count++] = t;
    return t;
}

static struct tensor *get(struct loader *l, bool only_f32, int ndim, const int64_t *shape,
                          const char *format, va_list args)
{
    char name[NAME_MAX_LENGTH];
    vsnprintf(name, sizeof name, format, args);
    if (l->failed)
        return NULL;
    const struct weight *w;
    if (names_get(&w, l->names, name, ndim, shape, l->error)) {
        l->failed = true;
        return NULL;
    }
    return take(l, w, only_f32);
}

struct tensor *loader_get(struct loader *l, int ndim, const int64_t *shape, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tensor *t = get(l, false, ndim, shape, format, args);
    va_end(args);
    return t;
}

struct tensor *loader_get_f32(struct loader *l, int ndim, const int64_t *shape, const char *format,
                              ...)
{
    va_list args;
    va_start(args, format);
    struct tensor *t = get(l, true, ndim, shape, format, args);
    va_end(args);
    return t;
}
