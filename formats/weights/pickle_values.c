#include "formats/weights/pickle_values.h"

bool pickle_sizes(const struct pickle_value *v, int64_t sizes[WEIGHT_MAX_DIMS], int *count)
{
    if (!v || (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST) ||
        v->list.count > WEIGHT_MAX_DIMS)
        return false;
    *count = (int)v->list.count;
    for (int i = 0; i < *count; i++) {
        const struct pickle_value *item = v->list.items[i];
        if (item->kind != PICKLE_INT || item->integer < 0)
            return false;
        sizes[i] = item->integer;
    }
    return true;
}

const uint8_t *byte_swapped(struct pickle_source *s, const uint8_t *data, size_t n, size_t size)
{
    if (n > s->copy_budget / size)
        return NULL;
    s->copy_budget -= n * size;
    uint8_t *copy = arena_allocate(&s->w->arena, n * size);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < size; j++)
            copy[i * size + j] = data[i * size + size - 1 - j];
    return copy;
}
