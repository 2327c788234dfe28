/* Samples images for text and image prompts and writes them as an image stream. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/diffusion/sample.h"
#include "common/diffusion/sample_memory.h"
#include "common/images/image_files.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/output.h"
#include "formats/images/image.h"

static const char *const pick_names[] = {"ema", "raw", NULL};

static struct {
    struct model_paths model;
    int pick, method, schedule;
    const char *prompts, *init, *output;
    struct string_list images;
    int64_t count, first, steps, batch_size;
    uint64_t seed;
    double eta, guidance, guidance_start, embed_noise, starting_time, autoencoder_scale;
    struct size2d size;
    bool low_memory, force, any_model, image_on_stdin;
} options = {
    .method = SAMPLER_PLMS,
    .count = 1,
    .steps = 50,
    .batch_size = 4,
    .guidance = 3,
    .guidance_start = NAN, /* as the checkpoint recommends */
    .embed_noise = NAN,    /* as the checkpoint was trained */
    .starting_time = 0.9,
};

static const struct option option_table[] = {
    MODEL_OPTION(options.model, "autoencoder.*, cloob.* and diffusion.*"),
    {.name = "checkpoint",
     .kind = OPTION_STRING,
     .value = &options.model.checkpoint,
     .argument = "FILE",
     .help = "load the diffusion model from FILE or a run, not from the folder"},
    MODEL_OPTION_AUTOENCODER(options.model),
    MODEL_OPTION_CLOOB(options.model),
    {.name = "allow-other-models",
     .kind = OPTION_FLAG,
     .value = &options.any_model,
     .help = "allow an autoencoder or CLOOB that the checkpoint was not trained with"},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .value = &options.pick,
     .argument = "WHICH",
     .help = "averaged (EMA) or raw weights, if the checkpoint has both",
     .choices = pick_names},
    {.name = "autoencoder-scale",
     .kind = OPTION_FLOAT,
     .value = &options.autoencoder_scale,
     .argument = "X",
     .help = "scale factor of the latents, 0 for the checkpoint's",
     .max = 1e6},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.output,
     .argument = "FILE",
     .help =
         "write each image to a PNG, PPM or PAM file; %05d is its number (- is standard output)"},
    {.name = "force",
     .kind = OPTION_FLAG,
     .value = &options.force,
     .help = "overwrite files that exist"},
    {.name = "prompts",
     .kind = OPTION_STRING,
     .value = &options.prompts,
     .argument = "FILE",
     .help = "read prompts from FILE, one per line (- is standard input)"},
    {.name = "images",
     .kind = OPTION_LIST,
     .value = &options.images,
     .argument = "FILE[:WEIGHT]",
     .help = "image prompt, combined with the other prompts; may be repeated"},
    {.name = "guidance",
     .kind = OPTION_FLOAT,
     .value = &options.guidance,
     .argument = "X",
     .help = "guidance scale: the weight of prompts without one",
     .min = -CONDITIONING_MAX_WEIGHT,
     .max = CONDITIONING_MAX_WEIGHT},
    {.name = "guidance-start",
     .kind = OPTION_FLOAT,
     .value = &options.guidance_start,
     .argument = "T",
     .help = "guide only at timesteps of at most T; below 1, images vary more (default: the "
             "checkpoint's, else 1)",
     .max = 1},
    {.name = "number",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &options.count,
     .argument = "N",
     .help = "images per prompt",
     .min = 1,
     .max = 1e9},
    {.name = "first",
     .kind = OPTION_INT,
     .value = &options.first,
     .argument = "I",
     .help = "number of the first image in the seed's sequence",
     .max = 1e9},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &options.seed,
     .argument = "S",
     .help = "random seed of the noise"},
    {.name = "embed-noise",
     .kind = OPTION_FLOAT,
     .value = &options.embed_noise,
     .argument = "X",
     .help = "noise added to the prompts' embeddings, relative to their length "
             "(default: as in training)",
     .max = 1e3},
    {.name = "steps",
     .kind = OPTION_INT,
     .value = &options.steps,
     .argument = "N",
     .help = "number of sampling steps",
     .min = 1,
     .max = 100000},
    {.name = "method",
     .kind = OPTION_CHOICE,
     .value = &options.method,
     .argument = "NAME",
     .help = "sampler",
     .choices = sampler_method_names},
    {.name = "eta",
     .kind = OPTION_FLOAT,
     .value = &options.eta,
     .argument = "X",
     .help = "noise added by ddim: 0 for none, 1 for as much as ddpm",
     .max = 1},
    {.name = "schedule",
     .kind = OPTION_CHOICE,
     .value = &options.schedule,
     .argument = "NAME",
     .help = "noise schedule",
     .choices = schedule_names},
    {.name = "size",
     .kind = OPTION_SIZE,
     .value = &options.size,
     .argument = "HxW",
     .help = "image size in pixels, 0 for the size the checkpoint was trained on, else 256",
     .max = 16384},
    {.name = "init",
     .kind = OPTION_STRING,
     .value = &options.init,
     .argument = "IMAGE",
     .help = "start from IMAGE (- is standard input) with noise added, not from pure noise"},
    {.name = "starting-timestep",
     .kind = OPTION_FLOAT,
     .value = &options.starting_time,
     .argument = "T",
     .help = "with --init: start below T; the higher, the less of the image remains",
     .max = 1},
    {.name = "batch-size",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &options.batch_size,
     .argument = "N",
     .help = "images sampled together; affects memory use, not results",
     .min = 1,
     .max = 4096},
    {.name = "low-memory",
     .kind = OPTION_FLAG,
     .value = &options.low_memory,
     .help = "sample one image and one condition at a time: slower, uses little memory"},
    {0},
};

static const struct program program = {
    .name = "ccld-plms",
    .summary =
        "Samples images for prompts and writes them as a stream of PPM images, or to files (-o).\n"
        "A prompt is TEXT[:WEIGHT] or @FILE[:WEIGHT] for an image. All PROMPT arguments are\n"
        "combined into one image; without arguments, each line of standard input is the\n"
        "prompt of an image, sampled as soon as it arrives. Tabs separate several prompts.",
    .usage = "[OPTION]... [PROMPT]...",
    .options = option_table,
    .formats = image_formats,
};

/* Standard input can be one image, or the prompts. */
static void check_stdin(int count)
{
    int images = options.init && strcmp(options.init, "-") == 0;
    bool texts =
        options.prompts ? strcmp(options.prompts, "-") == 0 : !count && options.images.count == 0;
    for (int i = 0; i < options.images.count; i++) {
        size_t name = strcspn(options.images.items[i], ":");
        images += name == 1 && options.images.items[i][0] == '-';
    }
    if (images > 1)
        die_usage("standard input can be only one image");
    if (images == 1 && texts)
        die_usage("standard input is an image: pass prompts as arguments or with --prompts");
    if (images == 1 && isatty(STDIN_FILENO))
        die_usage("no image: redirect one to standard input");
    options.image_on_stdin = images == 1;
}

/* Prompts, and what it takes to read and embed more of them while images are made. */
struct prompts {
    struct conditionings conditionings;
    struct prompt_lines lines;
    bool only_one; /* the output's name has no number for a second image */
    struct tape *tape;
    struct model *model;
};

/* Sampled together at most, as lines that have arrived. */
static int most_lines(const struct prompts *p)
{
    return p->only_one ? 1 : (int)options.batch_size;
}

static int read_lines(struct prompts *p, bool wait, struct error *e)
{
    return conditionings_read(&p->conditionings, &p->lines, wait, most_lines(p), &options.images,
                              options.guidance, e);
}

static void read_prompts(struct prompts *p, int count, char **prompt)
{
    struct conditionings *c = &p->conditionings;
    struct error e;
    if (count && options.prompts)
        die_usage("prompts as arguments and --prompts cannot be combined");
    p->lines.input.at_end = true;
    bool terminal = !count && !options.prompts && isatty(STDIN_FILENO);
    if (!count && !terminal && (options.prompts || !options.image_on_stdin) &&
        (prompt_lines_open(&p->lines, options.prompts, &e) != 0 || read_lines(p, true, &e) != 0))
        die("%s", e.text);
    bool images_alone = c->count == 0 && !options.prompts && options.images.count > 0;
    if ((count || images_alone) && conditionings_add(c, count, (const char *const *)prompt,
                                                     &options.images, options.guidance, &e) != 0)
        die("%s", e.text);
    if (c->count == 0 && terminal)
        die_usage("no prompts: pass them as arguments, with --prompts or on standard input");
    if (c->count == 0 && options.prompts && strcmp(options.prompts, "-") != 0)
        die("no prompts: '%s' has no text", options.prompts);
    if (c->count == 0)
        die("no prompts: standard input has no text");
}

static int embed_prompts(struct prompts *p, struct error *e)
{
    struct model *m = p->model;
    const struct cloob_sizes *sizes = cloob_sizes(m->cloob);
    if (sizes->embed_width != unet_sizes(m->unet)->embed_width)
        return error_set(e, "'%s' makes embeddings of %" PRId64 " numbers, '%s' needs %" PRId64,
                         m->cloob_part.path, sizes->embed_width, m->unet_part.path,
                         unet_sizes(m->unet)->embed_width);
    if (conditionings_embed(&p->conditionings, p->tape, m->cloob, m->cloob_part.path, e) != 0)
        return -1;
    if (!prompt_lines_ended(&p->lines))
        return 0;
    model_drop(m, MODEL_CLOOB);
    device_trim(p->tape->device);
    return 0;
}

/* Lines that have arrived in the meantime. */
static int more_prompts(void *context, int done, struct error *e)
{
    struct prompts *p = context;
    int waiting = p->conditionings.count - done;
    conditionings_forget(&p->conditionings, done);
    if (prompt_lines_ended(&p->lines) || waiting >= most_lines(p))
        return 0;
    if (read_lines(p, waiting == 0, e) != 0)
        return -1;
    if (p->only_one && p->conditionings.count > 1)
        return error_set(e, "cannot write a second image: '%s' has no number, such as %%05d",
                         options.output);
    return embed_prompts(p, e);
}

/* The name of the model's folder, or of a checkpoint outside one, without its suffix. */
static char *model_name(const char *checkpoint)
{
    char *path = realpath(checkpoint, NULL);
    if (!path)
        return xstrdup(checkpoint);
    char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (slash > path && strncmp(slash, "/diffusion.", 11) == 0) {
        *slash = 0;
        slash = strrchr(path, '/');
    } else if (dot && dot > slash + 1) {
        *dot = 0;
    }
    char *name = xstrdup(slash + 1);
    free(path);
    return name;
}

struct writer {
    const struct conditionings *conditionings;
    const struct sample_options *sample;
    const char *model;
    const struct image_files *files; /* NULL: standard output */
    int64_t written;
};

static int write_image(void *context, const struct image *image, int conditioning, int64_t index,
                       struct error *e)
{
    struct writer *w = context;
    struct image_remarks remarks = {0};
    int status = 0;
    sample_remarks(&remarks, w->sample, &w->conditionings->items[conditioning], index, w->model);
    if (w->files)
        status = image_files_write(w->files, options.first + w->written, image, &remarks, e);
    else if (image_stream_write(stdout, image, &remarks, e) != 0)
        output_failed(e);
    image_remarks_release(&remarks);
    w->written++;
    return status;
}

static void check_numbered(const struct image_files *files, int64_t images)
{
    if (options.output && !files->numbered && images > 1)
        die_usage("option '--output': '%s' has no number, such as %%05d, for several images",
                  options.output);
}

/* Prepares -o. Standard output is for the others. */
static void open_files(struct image_files *files)
{
    struct error e;
    if (options.output && strcmp(options.output, "-") == 0)
        options.output = NULL;
    option_requires("force", options.output, "-o");
    if (!options.output)
        output_begin_binary("pipe it to ccld-grid, redirect it, or name files with -o");
    else if (image_files_init(files, options.output, options.force, &e) != 0)
        die_usage("option '--output': %s", e.text);
    check_numbered(files, options.count);
}

/* What is known of the files before any image is sampled. */
static void check_files(const struct image_files *files, const struct prompts *p)
{
    int64_t images = p->conditionings.count * options.count;
    struct error e;
    check_numbered(files, images);
    if (image_files_check(files, options.first, images, &e) != 0)
        die("%s", e.text);
}

static double embed_noise(const struct model *m)
{
    return isnan(options.embed_noise) ? model_embed_noise(&m->unet_part) : options.embed_noise;
}

static double guidance_start(const struct model *m)
{
    return isnan(options.guidance_start) ? model_guidance_start(&m->unet_part)
                                         : options.guidance_start;
}

static double autoencoder_scale(const struct model *m)
{
    double stored = unet_sizes(m->unet)->autoencoder_scale;
    if (options.autoencoder_scale > 0)
        return options.autoencoder_scale;
    if (!(stored > 0))
        die("'%s' does not record its autoencoder scale: pass it with --autoencoder-scale",
            m->unet_part.path);
    return stored;
}

static struct sample_options sample_options(struct prompts *p)
{
    const struct model *m = p->model;
    struct size2d size = model_image_size(&m->unet_part, options.size);
    return (struct sample_options){
        .method = options.method,
        .schedule = options.schedule,
        .steps = (int)options.steps,
        .eta = options.eta,
        .seed = options.seed,
        .first = options.first,
        .count = options.count,
        .guidance_start = guidance_start(m),
        .embed_noise = embed_noise(m),
        .height = size.height,
        .width = size.width,
        .autoencoder_scale = autoencoder_scale(m),
        .init = options.init,
        .starting_time = options.starting_time,
        .batch_size = options.low_memory ? 1 : (int)options.batch_size,
        .low_memory = options.low_memory,
        .more = prompt_lines_ended(&p->lines) ? NULL : more_prompts,
        .more_context = p,
    };
}

/* Adds to e what would fit: the largest batch that does, or --low-memory. */
static void add_remedy(struct error *e, const struct memory_limit *limit, struct prompts *p,
                       const struct sample_options *o, const struct device *d)
{
    struct model *m = p->model;
    const struct conditionings *c = &p->conditionings;
    struct sample_options less = *o;
    struct error before = *e, why;
    char bytes[32];
    struct sample_memory needed = {.process = INT64_MAX};
    while (needed.process > limit->bytes && less.batch_size > 1) {
        less.batch_size /= 2;
        if (sample_memory_plan(&needed, m, &less, c, d, &why) != 0)
            return;
    }
    if (needed.process <= limit->bytes) {
        error_set(e, "%s; --batch-size %d needs %s", before.text, less.batch_size,
                  format_bytes(bytes, (double)needed.process));
        return;
    }
    if (o->low_memory)
        return;
    less.low_memory = true;
    if (sample_memory_plan(&needed, m, &less, c, d, &why) == 0)
        error_set(e, "%s; %s--low-memory needs %s", before.text,
                  needed.process <= limit->bytes ? "" : "even ",
                  format_bytes(bytes, (double)needed.process));
}

/* Ends the program if the CPU's memory does not suffice, before weights are read. */
static void check_memory(struct prompts *p, struct device *d)
{
    struct model *m = p->model;
    const struct conditionings *c = &p->conditionings;
    struct error e;
    struct sample_memory needed;
    if (!d->host_memory)
        return;
    struct device *dry = device_open_dry(d);
    if (model_load(m, dry, &e) != 0)
        die("%s", e.text);
    struct sample_options o = sample_options(p);
    if (sample_check(&o, m->unet, m->kl, &e) != 0)
        die("%s", e.text);
    model_unload(m, MODEL_ALL);
    device_close(dry);
    if (sample_memory_plan(&needed, m, &o, c, d, &e) != 0)
        die("%s", e.text);
    char bytes[32];
    note("memory: %s", format_bytes(bytes, (double)needed.process));
    struct memory_limit limit = memory_limit_left(1, "");
    if (memory_limit_check(&limit, "sampling", needed.process, &e) == 0)
        return device_plan(d, (size_t)needed.tensors);
    add_remedy(&e, &limit, p, &o, d);
    die("not enough memory: %s", e.text);
}

int main(int argc, char **argv)
{
    int count = options_parse(&program, argc, argv);
    struct image_files files = {0};
    open_files(&files);
    if (options.eta > 0 && options.method != SAMPLER_DDIM)
        die_usage("--eta requires --method ddim");
    option_requires("starting-timestep", options.init, "--init");
    check_stdin(count);
    options.model.pick = options.pick;
    struct prompts prompts = {.only_one = options.output && !files.numbered};
    read_prompts(&prompts, count, argv + 1);
    if (options.output)
        check_files(&files, &prompts);

    struct error e;
    struct device *device = program_open_device();
    device->advice = "a smaller --batch-size, or --low-memory";
    struct tape tape;
    struct model *m;
    tape_init(&tape, device);
    if (model_find(&m, &options.model, MODEL_ALL, &e) != 0)
        die("%s", e.text);
    if (!options.any_model && model_check_origin(m, &e) != 0)
        die("%s, or give --allow-other-models", e.text);
    prompts.model = m;
    prompts.tape = &tape;
    check_memory(&prompts, device);
    if (model_load(m, device, &e) != 0)
        die("%s", e.text);
    struct sample_options sample = sample_options(&prompts);
    if (sample_check(&sample, m->unet, m->kl, &e) != 0)
        die("%s", e.text);
    if (embed_prompts(&prompts, &e) != 0)
        die("%s", e.text);

    char *name = model_name(m->unet_part.path), duration[32];
    struct conditionings *conditionings = &prompts.conditionings;
    struct writer writer = {.conditionings = conditionings,
                            .sample = &sample,
                            .model = name,
                            .files = options.output ? &files : NULL};
    double started = seconds_now();
    if (sample_run(&tape, &sample, m->unet, m->kl, conditionings, write_image, &writer, &e) != 0)
        die("%s", e.text);
    inform("%" PRId64 " image%s in %s, autoencoder scale %.9g%s", writer.written,
           plural(writer.written), format_duration(duration, seconds_now() - started),
           sample.autoencoder_scale, options.autoencoder_scale > 0 ? "" : " (from the checkpoint)");
    free(name);
    model_close(m);
    conditionings_release(conditionings);
    prompt_lines_close(&prompts.lines);
    image_files_release(&files);
    tape_release(&tape);
    device_close(device);
    return 0;
}
