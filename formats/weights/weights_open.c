#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "formats/weights/weights_build.h"
#include "formats/weights/weights_readers.h"

static int read_zip(struct weights *w, const uint8_t *data, size_t size, struct error *e);

static int read_any(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    if (zip_recognize(data, size))
        return read_zip(w, data, size, e);
    if (safetensors_recognize(data, size))
        return safetensors_read(w, data, size, e);
    if (torch_legacy_recognize(data, size))
        return torch_legacy_read(w, data, size, e);
    if (size > 262 && memcmp(data + 257, "ustar", 5) == 0)
        return error_set(
            e, "a tar archive; tar checkpoints (PyTorch before 0.1.10) are not supported");
    if (size >= 24 && memcmp(data, "version https://git-lfs.", 24) == 0)
        return error_set(e, "a Git LFS pointer, not the file itself (run 'git lfs pull')");
    if (size > 0 && data[0] == '<')
        return error_set(e, "a web page or XML file, not weights");
    return weights_pickle_read(w, data, size, e);
}

const char *const weights_extensions[] = {"safetensors", "ckpt", "pth", "pt", "zip", "pkl", NULL};

/* Of a weight file within a zip. diffusers calls its torch files .bin. */
static bool has_extension(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot || !strcmp(dot, ".zip"))
        return false;
    for (int i = 0; weights_extensions[i]; i++)
        if (!strcmp(dot + 1, weights_extensions[i]))
            return true;
    return !strcmp(dot, ".bin");
}

/* Finds the checkpoint in an archive that is not itself one: the only candidate, or the one named
 * model.*. */
static struct zip_member *find_checkpoint(const struct zip *z, int *candidates)
{
    struct zip_member *found = NULL;
    bool found_model = false;
    *candidates = 0;
    for (size_t i = 0; i < z->count; i++) {
        struct zip_member *m = &z->members[i];
        bool is_checkpoint = has_extension(m->name);
        const char *slash = strrchr(m->name, '/');
        const char *base = slash ? slash + 1 : m->name;
        if (!is_checkpoint || base[0] == '.')
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
    if (zip_read(z, data, size, e) != 0)
        return -1;
    for (size_t i = 0; i < z->count; i++) {
        const char *name = z->members[i].name;
        if (strcmp(name, "data.pkl") == 0 || has_suffix(name, "/data.pkl"))
            return torch_zip_read(w, z, e);
    }
    int candidates;
    struct zip_member *m = find_checkpoint(z, &candidates);
    if (!m)
        return error_set(e, "a zip archive without a checkpoint");
    if (candidates > 1)
        return error_set(e, "a zip archive with %d checkpoints; unpack the one to use", candidates);
    if (zip_open_member(z, m, e) != 0 || read_any(w, m->data, (size_t)m->size, e) != 0)
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

static int read_all(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    if (size == 0)
        return error_set(e, "empty file");
    if (read_any(w, data, size, e) != 0)
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

/* What other projects need beside weights. */
static bool is_configuration(const char *path)
{
    return has_suffix(path, ".yaml") || has_suffix(path, ".yml") || has_suffix(path, ".json");
}

int weights_open(struct weights **w, const char *path, struct error *e)
{
    struct weights *n = xcalloc(1, sizeof *n);
    if (file_map(&n->file, path, e) != 0) {
        free(n);
        return -1;
    }
    if (read_all(n, n->file.data, n->file.size, e) != 0) {
        weights_close(n);
        if (is_configuration(path))
            error_set(e, "a configuration file, which is not needed: name the file of the weights");
        return -1;
    }
    *w = n;
    return 0;
}

int weights_open_memory(struct weights **w, const void *data, size_t size, struct error *e)
{
    struct weights *n = xcalloc(1, sizeof *n);
    if (read_all(n, data, size, e) != 0) {
        weights_close(n);
        return -1;
    }
    *w = n;
    return 0;
}
