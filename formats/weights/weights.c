#include "formats/weights/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/weights/weights_build.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "weights are used in place, so the machine must be little-endian");

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->zip_count; i++)
        zip_release(&w->zips[i]);
    if (w->file.path)
        file_unmap(&w->file);
    arena_release(&w->arena);
    free(w->items);
    free(w->by_name);
    free(w->metadata);
    free(w);
}

struct weight *weights_add(struct weights *w, const char *name)
{
    if (w->count == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 16;
        w->items = xrealloc(w->items, (size_t)w->capacity * sizeof *w->items);
    }
    struct weight *t = &w->items[w->count++];
    *t = (struct weight){.name = name};
    return t;
}

void weights_add_metadata(struct weights *w, const char *key, const char *value)
{
    if (w->metadata_count == w->metadata_capacity) {
        w->metadata_capacity = w->metadata_capacity ? 2 * w->metadata_capacity : 8;
        w->metadata = xrealloc(w->metadata, 2 * (size_t)w->metadata_capacity * sizeof *w->metadata);
    }
    w->metadata[2 * w->metadata_count] = key;
    w->metadata[2 * w->metadata_count + 1] = value;
    w->metadata_count++;
}

int weights_count(const struct weights *w)
{
    return w->count;
}

const struct weight *weights_at(const struct weights *w, int i)
{
    return &w->items[i];
}

const struct weight *weights_find(const struct weights *w, const char *name)
{
    int begin = 0, end = w->count;
    while (begin < end) {
        int middle = begin + (end - begin) / 2;
        const struct weight *t = &w->items[w->by_name[middle]];
        int order = strcmp(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return NULL;
}

const char *weights_metadata(const struct weights *w, const char *key)
{
    for (int i = 0; i < w->metadata_count; i++)
        if (strcmp(w->metadata[2 * i], key) == 0)
            return w->metadata[2 * i + 1];
    return NULL;
}

int weights_metadata_count(const struct weights *w)
{
    return w->metadata_count;
}

void weights_metadata_at(const struct weights *w, int i, const char **key, const char **value)
{
    *key = w->metadata[2 * i];
    *value = w->metadata[2 * i + 1];
}

const char *weights_format(const struct weights *w)
{
    return w->format;
}

int weights_opaque_count(const struct weights *w)
{
    return w->opaque;
}

void weights_forget(const struct weights *w, const struct weight *t)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t file = (uintptr_t)w->file.data, begin = (uintptr_t)t->data;
    size_t size = weight_bytes(t);
    if (!t->contiguous || size == 0 || begin < file || begin + size > file + w->file.size)
        return;
    uintptr_t first = (begin + page - 1) / page * page, last = (begin + size) / page * page;
    if (first < last)
        madvise((void *)first, last - first, MADV_DONTNEED);
}
