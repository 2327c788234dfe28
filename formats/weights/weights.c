#include "formats/weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/weights/weights_build.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are little-endian, as we are");

int weights_open(struct weights **w, const char *path, struct error *e)
{
    struct weights *n = xcalloc(1, sizeof *n);
    if (file_map(&n->file, path, e)) {
        free(n);
        return -1;
    }
    if (weights_read(n, n->file.data, n->file.size, e)) {
        weights_close(n);
        return -1;
    }
    *w = n;
    return 0;
}

int weights_open_memory(struct weights **w, const void *data, size_t size, struct error *e)
{
    struct weights *n = xcalloc(1, sizeof *n);
    if (weights_read(n, data, size, e)) {
        weights_close(n);
        return -1;
    }
    *w = n;
    return 0;
}

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

static int read_zip(struct weights *w, const uint8_t *data, size_t size, struct error *e);

static int read_any(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    if (zip_recognise(data, size))
        return read_zip(w, data, size, e);
    if (safetensors_recognise(data, size))
        return safetensors_read(w, data, size, e);
    if (torch_legacy_recognise(data, size))
        return torch_legacy_read(w, data, size, e);
    if (size > 262 && memcmp(data + 257, "ustar", 5) == 0)
        return error_set(e, "a tar archive; tar checkpoints (PyTorch before 0.1.10) are not read");
    if (size >= 24 && memcmp(data, "version https://git-lfs.", 24) == 0)
        return error_set(e, "a Git LFS pointer, not the file itself (run 'git lfs pull')");
    if (size > 0 && data[0] == '<')
        return error_set(e, "a web page or XML, not weights");
    return numpy_pickle_read(w, data, size, e);
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* A checkpoint inside a plain archive: the only one, or the one called model.*. */
static struct zip_member *find_checkpoint(const struct zip *z, int *candidates)
{
    static const char *const suffixes[] = {".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".pkl"};
    struct zip_member *found = NULL;
    bool found_model = false;
    *candidates = 0;
    for (size_t i = 0; i < z->count; i++) {
        struct zip_member *m = &z->members[i];
        bool suits = false;
        for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes; s++)
            suits |= has_suffix(m->name, suffixes[s]);
        const char *slash = strrchr(m->name, '/');
        const char *base = slash ? slash + 1 : m->name;
        if (!suits || base[0] == '.')
            continue;
        bool is_model = strncmp(base, "model.", 6) == 0;
        *candidates += !found_model || is_model;
        if (is_model && !found_model) {
            *candidates = 1;
            found_model = true;
            found = m;
        } else if (!found) {
            found = m;
        }
    }
    return found;
}

static int read_zip(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    if (w->zip_count == WEIGHTS_NESTED_MAX)
        return error_set(e, "archives nested too deeply");
    struct zip *z = &w->zips[w->zip_count++];
    if (zip_read(z, data, size, e))
        return -1;
    for (size_t i = 0; i < z->count; i++) {
        const char *name = z->members[i].name;
        if (strcmp(name, "data.pkl") == 0 || has_suffix(name, "/data.pkl"))
            return torch_zip_read(w, z, e);
    }
    int candidates;
    struct zip_member *m = find_checkpoint(z, &candidates);
    if (!m)
        return error_set(e, "a zip archive without a checkpoint in it");
    if (candidates > 1)
        return error_set(e, "a zip archive with %d checkpoints in it; unpack the one to use",
                         candidates);
    if (zip_open_member(z, m, e) || read_any(w, m->data, (size_t)m->size, e))
        return error_prefix(e, "'%.100s' in the archive", m->name);
    size_t n = strlen(w->format);
    snprintf(w->format + n, sizeof w->format - n, " in zip");
    return 0;
}

static int compare_names(const void *a, const void *b, void *items)
{
    const struct weight *t = items;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

int weights_read(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    if (size == 0)
        return error_set(e, "empty file");
    if (read_any(w, data, size, e))
        return -1;
    w->by_name = xcalloc((size_t)w->count + 1, sizeof *w->by_name);
    for (int i = 0; i < w->count; i++)
        w->by_name[i] = i;
    qsort_r(w->by_name, (size_t)w->count, sizeof *w->by_name, compare_names, w->items);
    for (int i = 1; i < w->count; i++)
        if (compare_names(&w->by_name[i - 1], &w->by_name[i], w->items) == 0)
            return error_set(e, "two tensors named '%.100s'", w->items[w->by_name[i]].name);
    return 0;
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
