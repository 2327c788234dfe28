/* Generates images and captions of colored shapes (tests/support/shapes.h). */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "tests/support/shapes.h"

static const char *const split_names[] = {"train", "holdout", "both", NULL};
enum list { LIST_NONE, LIST_SHAPES, LIST_COLORS };
static const char *const list_names[] = {"none", "shapes", "colours", NULL};

static struct {
    const char *folder, *pairs;
    int64_t count, first, size;
    uint64_t seed;
    int split, only, list;
} options = {.count = -1, .size = 64, .only = -1};

static const struct option option_table[] = {
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.folder,
     .argument = "DIR",
     .help = "folder for 000000.png, 000000.txt and so on; created if it does not exist"},
    {.name = "number",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &options.count,
     .argument = "N",
     .help = "number of images in the sequence",
     .min = 0,
     .max = 100e6},
    {.name = "first",
     .kind = OPTION_INT,
     .value = &options.first,
     .argument = "I",
     .help = "generate images I to I+N-1 of the seed's sequence",
     .min = 0,
     .max = 100e6},
    {.name = "size",
     .kind = OPTION_INT,
     .value = &options.size,
     .argument = "PIXELS",
     .help = "side length of an image",
     .min = 16,
     .max = 4096},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &options.seed,
     .argument = "N",
     .help = "seed of the scenes"},
    {.name = "split",
     .kind = OPTION_CHOICE,
     .value = &options.split,
     .argument = "WHICH",
     .help =
         "combinations of shape and color: for training, at least one held-out per image, or all",
     .choices = split_names},
    {.name = "only",
     .kind = OPTION_CHOICE,
     .value = &options.only,
     .argument = "SHAPE",
     .help = "skip images of the sequence that contain no such shape",
     .choices = shape_names},
    {.name = "pairs",
     .kind = OPTION_STRING,
     .value = &options.pairs,
     .argument = "FILE",
     .help = "write the list of paths and captions to FILE instead of standard output"},
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &options.list,
     .argument = "WHICH",
     .help = "print the names used in captions, one per line, and exit",
     .choices = list_names},
    {0},
};

static const struct program program = {
    .name = "shapes",
    .summary = "Generate small images of colored shapes with captions; list PATH<tab>CAPTION.\n"
               "Existing images are checked and kept.",
    .usage = "[OPTION]... -o DIR -n N\n--list WHICH",
    .options = option_table,
};

struct job {
    struct progress *progress;
    atomic_llong made, kept;
};

static char *path_of(int64_t index, const char *suffix)
{
    char name[32];
    snprintf(name, sizeof name, "%06" PRId64 ".%s", index, suffix);
    return path_join(options.folder, name);
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

/* False if --only skips it. */
static bool wanted_scene(struct shapes_scene *s, int64_t index)
{
    bool wanted = options.only < 0;
    shapes_scene(s, options.seed, (uint64_t)index, (enum shapes_split)options.split);
    for (int i = 0; i < s->count; i++)
        wanted = wanted || (int)s->objects[i].shape == options.only;
    return wanted;
}

static void make_one(struct job *job, int64_t index)
{
    struct error e;
    struct shapes_scene scene;
    struct image image;
    if (!wanted_scene(&scene, index))
        return;
    char caption[SHAPES_CAPTION_MAX], *path = path_of(index, "png"),
                                      *beside = path_of(index, "txt");
    if (shapes_draw(&image, &scene, (int)options.size, &e) < 0)
        die("cannot draw '%s': %s", path, e.text);
    bool kept = keep_image(path, &image);
    if (!kept) {
        uint8_t *data;
        size_t size;
        if (png_encode(&data, &size, &image, NULL, 0, -1, &e) < 0)
            die("cannot write '%s': %s", path, e.text);
        write_file(path, data, size);
        free(data);
    }
    image_release(&image);
    shapes_caption(caption, &scene);
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
    for (int64_t i = begin; i < end; i++)
        make_one(context, options.first + i);
}

static void list_pairs(FILE *f)
{
    for (int64_t i = options.first; i < options.first + options.count; i++) {
        struct shapes_scene scene;
        if (!wanted_scene(&scene, i))
            continue;
        char caption[SHAPES_CAPTION_MAX], *path = path_of(i, "png");
        shapes_caption(caption, &scene);
        fprintf(f, "%s\t%s\n", path, caption);
        free(path);
    }
}

static void end_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        die("cannot write to standard output: %s", strerror(errno));
}

static int print_names(const char *const *names)
{
    for (; *names; names++)
        puts(*names);
    end_output();
    return 0;
}

static void write_pairs(void)
{
    struct error e;
    struct atomic_file list;
    if (atomic_file_open(&list, options.pairs, &e) < 0)
        die("cannot write '%s': %s", options.pairs, e.text);
    int fd = dup(list.fd);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    int status = f ? 0 : error_errno(&e, "open");
    if (f) {
        list_pairs(f);
        bool failed = ferror(f);
        if (fclose(f) != 0 || failed)
            status = error_errno(&e, "write");
    }
    if (status != 0)
        atomic_file_abandon(&list);
    else
        status = atomic_file_commit(&list, &e);
    if (status != 0)
        die("cannot write '%s': %s", options.pairs, e.text);
}

int main(int argc, char **argv)
{
    struct error e;
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    if (options.list != LIST_NONE)
        return print_names(options.list == LIST_SHAPES ? shape_names : color_names);
    if (!options.folder)
        die_usage("no output folder: use -o DIR");
    if (options.count < 0)
        die_usage("no number of images: use -n N");
    if (make_directories(options.folder, &e) < 0)
        die("cannot create folder '%s': %s", options.folder, e.text);

    struct job job = {.progress = progress_start("drawing", "images", options.count)};
    parallel_for(options.count, 16, make_range, &job);
    progress_finish(job.progress);
    if (options.pairs) {
        write_pairs();
    } else {
        list_pairs(stdout);
        end_output();
    }
    inform("%lld images in '%s', %lld of them existed", job.made, options.folder, job.kept);
    return 0;
}
