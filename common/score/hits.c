#include "common/score/hits.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/base/message.h"

static bool is_worse(const struct hit *a, const struct hit *b)
{
    return a->score != b->score ? a->score < b->score : a->at > b->at;
}

static void rise(struct hit *items, int64_t i)
{
    struct hit item = items[i];
    for (; i > 0 && is_worse(&item, &items[(i - 1) / 2]); i = (i - 1) / 2)
        items[i] = items[(i - 1) / 2];
    items[i] = item;
}

static void sink(struct hit *items, int64_t count)
{
    struct hit item = items[0];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && is_worse(&items[child + 1], &items[child]))
            child++;
        if (!is_worse(&items[child], &item))
            break;
        items[i] = items[child];
    }
    items[i] = item;
}

void hits_offer(struct hits *h, double score, int64_t at)
{
    struct hit item = {score, at};
    if (h->count == h->most) {
        if (!is_worse(&h->items[0], &item))
            return;
        h->items[0] = item;
        sink(h->items, h->count);
        return;
    }
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 64;
        h->items = xrealloc(h->items, (size_t)h->capacity * sizeof *h->items);
    }
    h->items[h->count++] = item;
    rise(h->items, h->count - 1);
}

static int best_first(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    return is_worse(x, y) ? 1 : is_worse(y, x) ? -1 : 0;
}

void hits_sort(struct hits *h)
{
    if (h->count > 0)
        qsort(h->items, (size_t)h->count, sizeof *h->items, best_first);
}

void hits_release(struct hits *h)
{
    free(h->items);
    *h = (struct hits){.most = h->most};
}
