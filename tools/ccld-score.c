/* Scores images: by their prompts' CLOOB embeddings, or by their distance from a data set. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/output.h"
#include "common/score/embed_input.h"
#include "common/score/ranking.h"
#include "common/score/reference.h"
#include "common/score/report.h"
#include "common/score/targets.h"

static struct {
    struct model_paths model;
    struct string_list prompts, images, against;
    int64_t top, reference, batch_size, max_pixels;
    uint64_t seed;
    bool overall, json;
} options = {.reference = 50000, .batch_size = 16, .max_pixels = IMAGE_DEFAULT_MAX_PIXELS};

static const struct option option_table[] = {
    MODEL_OPTION(options.model, "cloob.*"),
    MODEL_OPTION_CLOOB(options.model),
    {.name = "prompt",
     .kind = OPTION_LIST,
     .value = &options.prompts,
     .argument = "TEXT[:WEIGHT]",
     .help = "prompt of images that carry none; may be repeated"},
    {.name = "images",
     .kind = OPTION_LIST,
     .value = &options.images,
     .argument = "FILE[:WEIGHT]",
     .help = "image prompt of images that carry none; may be repeated"},
    {.name = "top",
     .kind = OPTION_INT,
     .value = &options.top,
     .argument = "K",
     .help = "write the K images of each prompt that fit it best, the best first",
     .min = 1,
     .max = 1e6},
    {.name = "overall",
     .kind = OPTION_FLAG,
     .value = &options.overall,
     .help = "with --top: the K best of all images, not of each prompt"},
    {.name = "against",
     .kind = OPTION_LIST,
     .value = &options.against,
     .argument = "STORE",
     .help = "measure distances from a store, a folder or a list of images; may be repeated"},
    {.name = "reference",
     .kind = OPTION_INT,
     .value = &options.reference,
     .argument = "N",
     .help = "with --against: compare with at most N images of it",
     .min = 1,
     .max = 1e9},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &options.seed,
     .argument = "S",
     .help = "random seed of what --reference chooses and of subsets"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .value = &options.json,
     .help = "print JSON objects, one a line, not a table"},
    {.name = "batch-size",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &options.batch_size,
     .argument = "N",
     .help = "images per batch; affects memory use, not results",
     .min = 1,
     .max = 4096},
    {.name = "max-pixels",
     .kind = OPTION_INT,
     .value = &options.max_pixels,
     .argument = "N",
     .help = "reject images with more pixels",
     .min = 1,
     .max = 1e12},
    {0},
};

static const struct program program = {
    .name = "ccld-score",
    .summary =
        "Scores images by CLOOB: prints how well each fits its prompt, passes on those that fit\n"
        "best (--top), or measures how far all are from a data set (--against).\n"
        "Without FILE, or if FILE is -, reads an image stream from standard input.",
    .usage = "[OPTION]... [FILE]...",
    .options = option_table,
    .formats = image_formats,
};

/* One image's row of the table. */
struct row {
    char *path; /* NULL: standard input */
    char *seed; /* NULL: unknown */
    int target;
};

struct scoring {
    struct device *device;
    struct tape tape;
    struct model *model;
    struct embedder embedder;
    struct targets targets;
    struct embeddings embeds; /* of all images, unless only the best are wanted */
    struct row *rows;         /* likewise, without --against */
    struct ranking ranking;
    int64_t count;
};

static void open_cloob(struct scoring *s)
{
    struct error e;
    s->device = program_open_device();
    s->device->advice = "a smaller --batch-size";
    tape_init(&s->tape, s->device);
    if (model_open(&s->model, &options.model, MODEL_CLOOB, s->device, &e) != 0)
        die("%s", e.text);
    s->embedder =
        (struct embedder){.tape = &s->tape, .cloob = s->model->cloob, .batch = options.batch_size};
    if (embedder_check(&s->embedder, s->model->cloob_part.path, &e) != 0)
        die("%s", e.text);
    s->embeds.width = cloob_sizes(s->model->cloob)->embed_width;
    s->targets.prompts = options.prompts;
    s->targets.images = options.images;
    s->ranking.most = (int)options.top;
}

static int find_target(struct scoring *s, const struct embedded *x)
{
    struct error e;
    int target = targets_find(&s->targets, &x->remarks, &s->tape, s->model->cloob,
                              s->model->cloob_part.path, &e);
    if (target < 0)
        die("cannot score '%s': %s", x->name, e.text);
    return target;
}

static void add_row(struct scoring *s, const struct embedded *x)
{
    const char *seed = image_remarks_find(&x->remarks, "seed");
    int64_t at = s->count;
    if ((at & (at - 1)) == 0)
        s->rows = xrealloc(s->rows, (size_t)(at ? 2 * at : 1) * sizeof *s->rows);
    s->rows[at] = (struct row){.path = x->path ? xstrdup(x->path) : NULL,
                               .seed = seed ? xstrdup(seed) : NULL,
                               .target = find_target(s, x)};
}

static void offer(struct scoring *s, struct embedded *x)
{
    int target = find_target(s, x);
    double score = targets_cosine(&s->targets, target, x->embed);
    char text[32];
    snprintf(text, sizeof text, "%.6f", score);
    image_remarks_set(&x->remarks, "score", text);
    ranking_offer(&s->ranking, options.overall ? 0 : target, score, &x->image, &x->remarks);
    x->image = (struct image){0};
    x->remarks = (struct image_remarks){0};
}

/* An embedded_emit. */
static int take_image(void *context, struct embedded *x, struct error *e)
{
    struct scoring *s = context;
    struct embeddings one = {.width = s->embeds.width};
    embeddings_add(&one, x->embed, x->name);
    int status = embeddings_check(&one, "image", e);
    embeddings_release(&one);
    if (status != 0)
        return -1;
    if (options.top) {
        offer(s, x);
    } else {
        if (options.against.count == 0)
            add_row(s, x);
        embeddings_add(&s->embeds, x->embed, x->name);
    }
    s->count++;
    return 0;
}

static void read_images(struct scoring *s, int files, char **paths)
{
    struct image_input source;
    struct error e;
    if (files == 0 && isatty(STDIN_FILENO))
        die_usage("no images: name files, or pipe an image stream to standard input");
    image_input_init(&source, paths, files, options.max_pixels);
    source.as_stored = !options.top; /* the tower's input is prepared from it */
    if (embed_input(&s->embedder, &source, options.top > 0, "scoring", -1, take_image, s, &e) !=
        0) {
        if (source.path && folder_exists(source.path))
            die("%s (find DIR -type f -exec ccld-score {} + scores its files)", e.text);
        die("%s", e.text);
    }
    image_input_release(&source);
    if (s->count == 0)
        die("no images: %s", files ? "the files contain none" : "standard input is empty");
}

static void print_rows(struct scoring *s)
{
    double sum = 0;
    report_header(options.json);
    for (int64_t i = 0; i < s->count; i++) {
        const float *embed = s->embeds.values + i * s->embeds.width;
        struct row *row = &s->rows[i];
        struct report_row r = {.number = i + 1,
                               .path = row->path,
                               .seed = row->seed,
                               .cosine = targets_cosine(&s->targets, row->target, embed),
                               .margin = targets_margin(&s->targets, row->target, embed),
                               .prompt = targets_label(&s->targets, row->target)};
        report_row(&r, options.json);
        sum += r.cosine;
        free(row->path);
        free(row->seed);
    }
    output_finish();
    int prompts = s->targets.conditionings.count;
    inform("%" PRId64 " image%s of %d prompt%s, mean cosine %.6f", s->count, plural(s->count),
           prompts, plural(prompts), sum / (double)s->count);
    free(s->rows);
}

static void write_best(const struct scoring *s)
{
    const struct ranking *r = &s->ranking;
    int64_t written = 0;
    struct error e;
    for (int g = 0; g < r->groups; g++)
        for (int i = 0; i < r->counts[g]; i++, written++)
            if (image_stream_write(stdout, &r->items[g][i].image, &r->items[g][i].remarks, &e) != 0)
                output_failed(&e);
    inform("%" PRId64 " of %" PRId64 " image%s passed on", written, s->count, plural(s->count));
}

static void check_store(struct scoring *s, const struct latent_set *d)
{
    const struct shard_info *info = latent_set_info(d);
    struct error e;
    if (model_part_check(&s->model->cloob_part, &info->cloob, &e) != 0)
        die("cannot compare with '%s': %s", options.against.items[0], e.text);
    s->embedder.size = (struct size2d){info->image_height, info->image_width};
    s->embedder.color = strcmp(info->preprocessing, "pil") == 0 ? PREPARE_PIL : PREPARE_DISPLAY;
}

/* Opens the stores, if --against names some: NULL if it names images. */
static struct latent_set *open_reference(struct scoring *s, struct reference_paths *paths)
{
    struct latent_set *d = NULL;
    struct error e;
    if (reference_paths_expand(paths, &options.against, &e) != 0)
        die("cannot compare: %s", e.text);
    if (!paths->stores)
        return NULL;
    if (latent_set_open(&d, (const char *const *)paths->items, (int)paths->count,
                        &(struct latent_set_options){0}, &e) != 0)
        die("cannot read store %s", e.text);
    check_store(s, d);
    return d;
}

static void read_reference(struct scoring *s, struct embeddings *out,
                           const struct reference_paths *paths, struct latent_set *d)
{
    struct error e;
    int64_t all = d ? latent_set_training_count(d) : paths->count;
    int status = d ? reference_from_store(out, d, options.reference, options.seed, &e)
                   : reference_from_images(out, &s->embedder, paths->items, paths->count,
                                           options.reference, options.seed, options.max_pixels, &e);
    if (status != 0)
        die("cannot read the reference: %s", e.text);
    if (all > options.reference)
        inform("comparing with %" PRId64 " of %" PRId64 " %s, chosen by --seed; --reference N for "
               "more or fewer",
               out->count, all, d ? "records" : "files");
}

static void compare(struct scoring *s, int files, char **paths)
{
    struct reference_paths named;
    struct embeddings reference = {0};
    struct distances d;
    struct error e;
    struct latent_set *store = open_reference(s, &named);
    read_images(s, files, paths);
    read_reference(s, &reference, &named, store);
    double started = seconds_now();
    if (distances_measure(&d, &s->tape, &s->embeds, &reference, options.seed, &e) != 0)
        die("cannot compare: %s", e.text);
    report_distances(&d, options.json);
    output_finish();
    report_closest(&d, &s->embeds, &reference);
    char duration[32];
    note("distances took %s", format_duration(duration, seconds_now() - started));
    distances_release(&d);
    embeddings_release(&reference);
    reference_paths_release(&named);
    latent_set_close(store);
}

static void check_options(int files)
{
    option_requires("overall", options.top, "--top");
    if (options.top && options.against.count)
        die_usage("--top and --against cannot be combined");
    for (int i = 0; i < options.against.count; i++)
        if (files == 0 && strcmp(options.against.items[i], "-") == 0)
            die_usage("standard input cannot be both the images and the list of --against");
    if (options.top && options.json)
        die_usage("--top writes images: --json has nothing to print");
    if (options.against.count && options.prompts.count + options.images.count)
        die_usage("--against compares with images: prompts have no effect");
    option_requires("reference", options.against.count, "--against");
}

int main(int argc, char **argv)
{
    int files = options_parse(&program, argc, argv);
    struct scoring s = {0};
    check_options(files);
    if (options.top)
        output_begin_binary("pipe it to ccld-grid, or redirect it");
    open_cloob(&s);
    if (options.against.count) {
        compare(&s, files, argv + 1);
    } else {
        read_images(&s, files, argv + 1);
        if (options.top)
            write_best(&s);
        else
            print_rows(&s);
    }
    ranking_release(&s.ranking);
    targets_release(&s.targets);
    embeddings_release(&s.embeds);
    model_close(s.model);
    tape_release(&s.tape);
    device_close(s.device);
    return 0;
}
