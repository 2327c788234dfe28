#include "common/nets/loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/device.h"
#include "kernels/weight.h"

#define NAME_MAX_LENGTH 256

void loader_init(struct loader *l, const struct named_weights *names, struct device *d,
                 struct error *e)
{
    *l = (struct loader){.device = d, .names = names, .error = e};
}

void loader_release(struct loader *l)
{
    for (int i = 0; i < l->count; i++)
        tensor_release(l->items[i].tensor);
    free(l->items);
    *l = (struct loader){0};
}

void loader_fail(struct loader *l, const char *format, ...)
{
    struct error reason;
    va_list args;
    if (l->failed)
        return;
    va_start(args, format);
    vsnprintf(reason.text, sizeof reason.text, format, args);
    va_end(args);
    error_set(l->error, "%s", reason.text);
    l->failed = true;
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

static struct tensor *hand_out(struct loader *l, const struct loaded *item)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 256;
        l->items = xrealloc(l->items, (size_t)l->capacity * sizeof *l->items);
    }
    l->items[l->count++] = *item;
    return item->tensor;
}

/* Copied to the device. */
static struct tensor *copy(struct loader *l, const struct weight *w, bool matrix, bool direct)
{
    if (direct && matrix)
        return weight_from_host(l->device, w->dtype, w->ndim, w->shape, w->data);
    float *host = NULL;
    if (!l->device->dry) {
        host = xmalloc((size_t)weight_count(w) * sizeof *host + 1);
        weight_to_f32(w, host);
    }
    struct tensor *t = matrix ? weight_from_host(l->device, DTYPE_F32, w->ndim, w->shape, host)
                              : tensor_from_f32(l->device, w->ndim, w->shape, host);
    if (!matrix)
        weights_refresh(l->device, &t, 1);
    free(host);
    return t;
}

static struct tensor *take(struct loader *l, const struct weight *w, bool matrix)
{
    for (int i = 0; i < l->count; i++)
        if (l->items[i].weight == w) /* requested before, for its size */
            return l->items[i].tensor;
    bool direct = w->contiguous && (w->dtype == DTYPE_F32 ||
                                    (matrix && (w->dtype == DTYPE_F16 || w->dtype == DTYPE_BF16)));
    const struct device *at = l->names->device;
    bool here = at ? at == l->device : l->device->host_memory || l->device->dry_of_host;
    struct loaded item = {.weight = w, .matrix = matrix};
    item.tensor = direct && here ? tensor_borrow(l->device, w->dtype, w->ndim, w->shape, w->data)
                                 : copy(l, w, matrix, direct);
    return hand_out(l, &item);
}

static struct tensor *get(struct loader *l, bool matrix, int ndim, const int64_t *shape,
                          const char *format, va_list args)
{
    char name[NAME_MAX_LENGTH];
    vsnprintf(name, sizeof name, format, args);
    if (l->failed)
        return NULL;
    const struct weight *w;
    if (names_get(&w, l->names, name, ndim, shape, l->error) != 0) {
        l->failed = true;
        return NULL;
    }
    return take(l, w, matrix);
}

static struct loaded *item_of(struct loader *l, const struct tensor *t)
{
    int i = 0;
    while (i < l->count && l->items[i].tensor != t)
        i++;
    CHECK(i < l->count);
    return &l->items[i];
}

struct tensor *loader_get(struct loader *l, int ndim, const int64_t *shape, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tensor *t = get(l, true, ndim, shape, format, args);
    va_end(args);
    return t;
}

struct tensor *loader_get_table(struct loader *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct tensor *t = get(l, true, DIMS(-1, -1), format, args);
    va_end(args);
    if (t)
        item_of(l, t)->table = true;
    return t;
}

struct tensor *loader_get_f32(struct loader *l, int ndim, const int64_t *shape, const char *format,
                              ...)
{
    va_list args;
    va_start(args, format);
    struct tensor *t = get(l, false, ndim, shape, format, args);
    va_end(args);
    return t;
}

static int by_address(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return ((*x)->data > (*y)->data) - ((*x)->data < (*y)->data);
}

/* The first of matrices that follow each other without gaps in borrowed memory, or NULL. */
static struct tensor *first_in_memory(struct tensor *const *matrices, int count)
{
    struct tensor **sorted = xmalloc((size_t)count * sizeof *sorted), *first;
    memcpy(sorted, matrices, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_address);
    first = sorted[0];
    for (int i = 0; i < count && first; i++) {
        size_t bytes = (size_t)tensor_count(sorted[i]) * dtype_size(sorted[i]->dtype);
        if (!sorted[i]->borrowed || sorted[i]->dtype != sorted[0]->dtype ||
            (i + 1 < count && (char *)sorted[i]->data + bytes != sorted[i + 1]->data))
            first = NULL;
    }
    free(sorted);
    return first;
}

/* Moves matrices, copied to the device before, into one tensor. */
static struct tensor *move_together(struct loader *l, struct tensor *const *matrices, int count,
                                    int64_t total)
{
    struct tensor *stack =
        tensor_new(l->device, matrices[0]->dtype, DIMS(total, matrices[0]->shape[1]));
    int64_t row = 0;
    for (int i = 0; i < count; i++) {
        struct tensor *from = matrices[i], *to = tensor_slice(stack, row, from->shape[0]);
        struct convert_weights_args args = {1, (const struct tensor *const *)&from, &to};
        l->device->backend->convert_weights(l->device, &args);
        row += from->shape[0];
        device_release(l->device, from->data, from->bytes);
        from->data = to->data;
        from->borrowed = true;
        from->base = tensor_retain(stack);
        tensor_release(to);
    }
    return stack;
}

struct tensor *loader_stack(struct loader *l, struct tensor *const *matrices, int count,
                            int64_t *rows)
{
    int64_t total = 0, k = matrices[0]->shape[1];
    for (int i = 0; i < count; i++) {
        CHECK(matrices[i]->ndim == 2 && matrices[i]->shape[1] == k);
        total += matrices[i]->shape[0];
    }
    const struct tensor *first = first_in_memory(matrices, count);
    struct loaded stack = {.matrix = true};
    if (first)
        stack.tensor = tensor_borrow(l->device, first->dtype, DIMS(total, k), first->data);
    else if (!l->device->host_memory && l->device->backend->convert_weights &&
             !matrices[0]->borrowed)
        stack.tensor = move_together(l, matrices, count, total);
    else
        return NULL;
    size_t row_bytes = (size_t)k * dtype_size(stack.tensor->dtype);
    for (int i = 0; i < count; i++) {
        rows[i] = ((char *)matrices[i]->data - (char *)stack.tensor->data) / (int64_t)row_bytes;
        item_of(l, matrices[i])->stacked = true;
    }
    return hand_out(l, &stack);
}

void loader_refresh(struct loader *l)
{
    struct tensor **changed = xcalloc((size_t)l->count + 1, sizeof *changed);
    int count = 0;
    for (int i = 0; i < l->count; i++)
        if (!l->items[i].stacked)
            changed[count++] = l->items[i].tensor;
    weights_refresh(l->device, changed, count);
    free(changed);
}

void loader_forget_copies(struct loader *l)
{
    for (int i = 0; i < l->count; i++) {
        tensor_release(l->items[i].tensor->working);
        l->items[i].tensor->working = NULL;
    }
}
