#include "common/score/reference.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/images/folder_walk.h"
#include "common/images/path_source.h"
#include "common/score/embed_input.h"

#define GRAIN    64 /* records in a unit of work for a thread */
#define TOGETHER 4096

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Which of `count` files, at most `most`: the first ones of a random order, in ascending order.
 * malloc'ed; *chosen: how many. */
static int64_t *choose(int64_t *chosen, int64_t count, int64_t most, uint64_t seed)
{
    *chosen = count < most ? count : most;
    int64_t *records = xmalloc((size_t)(*chosen + 1) * sizeof *records);
    struct order order;
    if (count > 0)
        order_init(&order, count, 0);
    for (int64_t i = 0; i < *chosen; i++)
        records[i] = *chosen == count ? i : order_record_at(&order, seed, 0, i);
    if (count > 0)
        order_release(&order);
    qsort(records, (size_t)*chosen, sizeof *records, ascending);
    return records;
}

struct reading {
    struct latent_set *d;
    const int64_t *records;
    struct shard_record *scratch; /* [threads_count()] */
    int64_t width;
    float *rows;  /* [n, width] */
    char **paths; /* [n] NULL: damaged */
    int *status;  /* [threads_count()] */
    struct error *errors;
};

static void read_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct reading *r = arg;
    struct shard_record *scratch = &r->scratch[worker];
    for (int64_t i = begin; i < end && r->status[worker] == 0; i++) {
        int status = latent_set_read_embed(r->d, r->records[i], scratch, r->rows + i * r->width,
                                           &r->errors[worker]);
        if (status == 0)
            r->paths[i] = xstrdup(scratch->path);
        else if (status != SHARD_RECORD_DAMAGED)
            r->status[worker] = status;
    }
}

/* Reads n records and appends those that can be read. */
static int read_records(struct embeddings *out, struct reading *r, int64_t n, struct error *e)
{
    int status = 0;
    memset(r->paths, 0, (size_t)n * sizeof *r->paths);
    parallel_for(n, GRAIN, read_some, r);
    for (int64_t i = 0; i < n; i++) {
        if (r->paths[i])
            embeddings_add(out, r->rows + i * r->width, r->paths[i]);
        free(r->paths[i]);
    }
    for (int i = 0; i < threads_count() && status == 0; i++)
        if (r->status[i] != 0)
            status = error_set(e, "%s", r->errors[i].text);
    return status;
}

int reference_from_store(struct embeddings *out, struct latent_set *d, int64_t most, uint64_t seed,
                         struct error *e)
{
    int64_t count = latent_set_training_count(d), chosen = count < most ? count : most;
    int64_t *records = xmalloc((size_t)chosen * sizeof *records);
    for (int64_t i = 0; i < chosen; i++)
        records[i] = latent_set_record_at(d, seed, 0, i);
    qsort(records, (size_t)chosen, sizeof *records, ascending);
    size_t threads = (size_t)threads_count();
    struct reading r = {.d = d, .width = latent_set_info(d)->embed_size};
    struct progress *progress = progress_start("reading", "records", chosen);
    int status = 0;
    out->width = r.width;
    r.scratch = xcalloc(threads, sizeof *r.scratch);
    r.status = xcalloc(threads, sizeof *r.status);
    r.errors = xcalloc(threads, sizeof *r.errors);
    r.rows = xmalloc(TOGETHER * (size_t)r.width * sizeof *r.rows);
    r.paths = xmalloc(TOGETHER * sizeof *r.paths);
    for (size_t i = 0; i < threads; i++)
        shard_record_init(&r.scratch[i]);
    for (int64_t i = 0; i < chosen && status == 0; i += TOGETHER) {
        r.records = records + i;
        status = read_records(out, &r, chosen - i < TOGETHER ? chosen - i : TOGETHER, e);
        progress_update(progress, i, NULL);
    }
    progress_finish(progress);
    for (size_t i = 0; i < threads; i++)
        shard_record_release(&r.scratch[i]);
    free(r.scratch);
    free(r.status);
    free(r.errors);
    free(r.rows);
    free(r.paths);
    free(records);
    return status;
}

/* An embedded_emit. */
static int add_image(void *context, struct embedded *x, struct error *e)
{
    embeddings_add(context, x->embed, x->name);
    return 0;
}

int reference_from_images(struct embeddings *out, const struct embedder *m, char *const *paths,
                          int64_t count, int64_t most, uint64_t seed, int64_t max_pixels,
                          struct error *e)
{
    int64_t chosen;
    int64_t *places = choose(&chosen, count, most, seed);
    char **some = xcalloc((size_t)chosen + 1, sizeof *some);
    struct image_input source;
    for (int64_t i = 0; i < chosen; i++)
        some[i] = paths[places[i]];
    out->width = cloob_sizes(m->cloob)->embed_width;
    image_input_init(&source, some, (int)chosen, max_pixels);
    source.as_stored = true;
    int status = embed_input(m, &source, false, "embedding", chosen, add_image, out, e);
    image_input_release(&source);
    free(some);
    free(places);
    return status;
}

static bool has_entry(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool exists = file_exists(path);
    free(path);
    return exists;
}

/* As ccld-encode makes them. */
static bool is_store(const char *path)
{
    return folder_exists(path) &&
           (has_entry(path, "00000.mdb") || has_entry(path, ".join") || has_entry(path, "parts"));
}

static void add_path(struct reference_paths *p, const char *path)
{
    p->items = xrealloc(p->items, (size_t)(p->count + 1) * sizeof *p->items);
    p->items[p->count++] = xstrdup(path);
}

static int add_folder(struct reference_paths *p, const char *folder, struct error *e)
{
    struct folder_walk *walk = folder_walk_new(folder);
    int64_t before = p->count, links = 0;
    const char *path;
    int got;
    while ((got = folder_walk_next(walk, &path, e)) > 0)
        if (got == FOLDER_WALK_LINK)
            links++;
        else if (image_file_is_known(path) > 0)
            add_path(p, path);
    if (links > 0)
        inform(FOLDER_LINKS_LEFT_OUT, links, plural(links));
    if (got < 0)
        error_prefix(e, "cannot read '%s'", path);
    else if (p->count == before)
        got = error_set(e, "'%s' is neither a store nor a folder with images", folder);
    folder_walk_free(walk);
    return got;
}

static int add_list(struct reference_paths *p, const char *file, struct error *e)
{
    struct path_source list;
    const char *path;
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(e, "cannot read '%s'", file);
    path_source_stream(&list, fd, '\n');
    int got;
    while ((got = path_source_next(&list, -1, &path, e)) > 0)
        add_path(p, path);
    path_source_release(&list);
    if (fd != STDIN_FILENO)
        close(fd);
    return got < 0 ? error_prefix(e, "cannot read '%s'", file) : 0;
}

int reference_paths_expand(struct reference_paths *out, const struct string_list *names,
                           struct error *e)
{
    int status = 0, stores = 0;
    *out = (struct reference_paths){0};
    for (int i = 0; i < names->count; i++)
        stores += is_store(names->items[i]);
    out->stores = stores > 0;
    if (stores > 0 && stores < names->count)
        return error_set(e, "stores and images cannot be combined");
    for (int i = 0; i < names->count && status == 0; i++) {
        const char *name = names->items[i];
        if (out->stores || (!folder_exists(name) && image_file_is_known(name) > 0))
            add_path(out, name);
        else
            status = folder_exists(name) ? add_folder(out, name, e) : add_list(out, name, e);
    }
    return status;
}

void reference_paths_release(struct reference_paths *p)
{
    for (int64_t i = 0; i < p->count; i++)
        free(p->items[i]);
    free(p->items);
    *p = (struct reference_paths){0};
}
