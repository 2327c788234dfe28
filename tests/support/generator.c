#include "tests/support/generator.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/threads.h"

struct job {
    const struct generator *generator;
    struct progress *progress;
    atomic_llong made, kept;
};

static char *path_of(const struct generator *g, int64_t index, const char *suffix)
{
    char name[32];
    snprintf(name, sizeof name, "%06" PRId64 ".%s", index, suffix);
    return path_join(g->folder, name);
}

static void write_file(const char *path, const void *data, size_t size)
{
    struct error e;
    if (file_write(path, data, size, &e) != 0)
        die("cannot write '%s': %s", path, e.text);
}

/* Machines may round pixels differently. */
static bool same_pixels(const struct image *a, const struct image *b)
{
    if (a->width != b->width || a->height != b->height || a->channels != b->channels ||
        a->depth != b->depth)
        return false;
    size_t n = image_bytes(a);
    for (size_t i = 0; i < n; i++)
        if (abs(a->pixels[i] - b->pixels[i]) > 2)
            return false;
    return true;
}

/* Replaces damaged files, but never a valid image that differs: it may be someone's data. */
static bool keep_image(const char *path, const struct image *image)
{
    struct error e;
    struct image old;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return false;
    if (image_read(&old, path, 0, &e) < 0) {
        warn("replacing '%s': %s", path, e.text);
        return false;
    }
    bool same = same_pixels(&old, image);
    image_release(&old);
    if (!same)
        die("'%s' is a different image, of another seed, size, split or version: use an empty "
            "folder",
            path);
    return true;
}

static bool keep_caption(const char *path, const char *caption)
{
    struct error e;
    uint8_t *old;
    size_t size;
    if (file_read(&old, &size, path, 4096, &e) < 0)
        return false;
    bool same = size == strlen(caption) && !memcmp(old, caption, size);
    free(old);
    return same;
}

static void write_image(const char *path, const struct image *image)
{
    struct error e;
    uint8_t *data;
    size_t size;
    if (png_encode(&data, &size, image, NULL, 0, -1, &e) < 0)
        die("cannot write '%s': %s", path, e.text);
    write_file(path, data, size);
    free(data);
}

static void make_one(struct job *job, int64_t index)
{
    const struct generator *g = job->generator;
    struct error e;
    struct image image;
    char caption[CAPTION_MAX + 1];
    if (!g->describe(caption, g, (uint64_t)index))
        return;
    char *path = path_of(g, index, "png"), *beside = path_of(g, index, "txt");
    if (g->draw(&image, g, (uint64_t)index, &e) < 0)
        die("cannot draw '%s': %s", path, e.text);
    bool kept = keep_image(path, &image);
    if (!kept)
        write_image(path, &image);
    image_release(&image);
    strcat(caption, "\n");
    if (!keep_caption(beside, caption))
        write_file(beside, caption, strlen(caption));
    if (kept)
        atomic_fetch_add(&job->kept, 1);
    progress_update(job->progress, (int64_t)atomic_fetch_add(&job->made, 1) + 1, NULL);
    free(path);
    free(beside);
}

static void make_range(void *context, int64_t begin, int64_t end, int worker)
{
    struct job *job = context;
    for (int64_t i = begin; i < end; i++)
        make_one(job, job->generator->first + i);
}

static void list_pairs(const struct generator *g, FILE *f)
{
    for (int64_t i = g->first; i < g->first + g->count; i++) {
        char caption[CAPTION_MAX];
        if (!g->describe(caption, g, (uint64_t)i))
            continue;
        char *path = path_of(g, i, "png");
        fprintf(f, "%s\t%s\n", path, caption);
        free(path);
    }
}

void end_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        die("cannot write to standard output: %s", strerror(errno));
}

static void write_pairs(const struct generator *g)
{
    struct error e;
    struct atomic_file list;
    if (atomic_file_open(&list, g->pairs, &e) < 0)
        die("cannot write '%s': %s", g->pairs, e.text);
    int fd = dup(list.fd);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    int status = f ? 0 : error_errno(&e, "open");
    if (f) {
        list_pairs(g, f);
        bool failed = ferror(f);
        if (fclose(f) != 0 || failed)
            status = error_errno(&e, "write");
    }
    if (status != 0)
        atomic_file_abandon(&list);
    else
        status = atomic_file_commit(&list, &e);
    if (status != 0)
        die("cannot write '%s': %s", g->pairs, e.text);
}

void generate(const struct generator *g)
{
    struct error e;
    if (!g->folder)
        die_usage("no output folder: use -o DIR");
    if (g->count < 0)
        die_usage("no number of images: use -n N");
    if (make_directories(g->folder, &e) < 0)
        die("cannot create folder '%s': %s", g->folder, e.text);

    struct job job = {.generator = g, .progress = progress_start("drawing", "images", g->count)};
    parallel_for(g->count, 16, make_range, &job);
    progress_finish(job.progress);
    if (g->pairs) {
        write_pairs(g);
    } else {
        list_pairs(g, stdout);
        end_output();
    }
    inform("%lld images in '%s', %lld of them existed", job.made, g->folder, job.kept);
}
