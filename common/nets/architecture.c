#include "common/nets/architecture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/tensor.h"

/* Appends NAME followed by `ending`. */
static struct tensor_spec *append(struct architecture *a, int ndim, const int64_t *shape,
                                  const char *ending, const char *format, va_list args)
{
    CHECK(ndim >= 1 && ndim <= ARCHITECTURE_MAX_DIMS);
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? 2 * a->capacity : 256;
        a->items = xrealloc(a->items, (size_t)a->capacity * sizeof *a->items);
    }
    struct tensor_spec *t = &a->items[a->count++];
    *t = (struct tensor_spec){.ndim = ndim};
    int n = vsnprintf(t->name, sizeof t->name, format, args);
    CHECK(n >= 0 && (size_t)n + strlen(ending) < sizeof t->name);
    strcat(t->name, ending);
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    return t;
}

static void append_pair(struct architecture *a, int ndim, const int64_t *weight, const char *format,
                        va_list args)
{
    va_list again;
    va_copy(again, args);
    append(a, ndim, weight, ".weight", format, args);
    append(a, DIMS(weight[0]), ".bias", format, again);
    va_end(again);
}

struct tensor_spec *architecture_add(struct architecture *a, int ndim, const int64_t *shape,
                                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tensor_spec *t = append(a, ndim, shape, "", format, args);
    va_end(args);
    return t;
}

void architecture_add_scalar(struct architecture *a, const char *name, double value)
{
    struct tensor_spec *t = architecture_add(a, DIMS(1), "%s", name);
    t->kind = TENSOR_SCALAR;
    t->value = (float)value;
}

void architecture_add_linear(struct architecture *a, int64_t in, int64_t out, const char *format,
                             ...)
{
    va_list args;
    va_start(args, format);
    append_pair(a, DIMS(out, in), format, args);
    va_end(args);
}

void architecture_add_conv(struct architecture *a, int64_t in, int64_t out, int64_t kernel,
                           const char *format, ...)
{
    va_list args;
    va_start(args, format);
    append_pair(a, DIMS(out, in, kernel, kernel), format, args);
    va_end(args);
}

void architecture_add_norm(struct architecture *a, int64_t channels, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    append_pair(a, DIMS(channels), format, args);
    va_end(args);
}

void architecture_release(struct architecture *a)
{
    free(a->items);
    *a = (struct architecture){0};
}

int64_t architecture_parameters(const struct named_weights *n,
                                enum tensor_kind (*kind_of)(const char *name))
{
    int64_t sum = 0;
    for (int i = 0; i < n->count; i++)
        if (!kind_of || kind_of(n->items[i].name) != TENSOR_SCALAR)
            sum += weight_count(&n->items[i]);
    return sum;
}
