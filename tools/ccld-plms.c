/* Samples pictures for text and image prompts and writes them as an image stream. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/diffusion/sample.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/output.h"
#include "formats/images/image_stream.h"

static const char *const pick_names[] = {"ema", "raw", NULL};

static struct {
    struct model_paths model;
    int pick, method, schedule;
    const char *prompts, *init;
    struct string_list images;
    int64_t count, first, steps, batch_size;
    uint64_t seed;
    double eta, guidance, guidance_start, embed_noise, starting_time, autoencoder_scale;
    struct size2d size;
    bool low_memory;
} options = {
    .method = SAMPLER_PLMS,
    .count = 1,
    .steps = 50,
    .batch_size = 4,
    .guidance = 3,
    .guidance_start = 1,
    .embed_noise = NAN, /* the checkpoint's */
    .starting_time = 0.9,
};

static const struct option option_table[] = {
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_STRING,
     .value = &options.model.model,
     .argument = "DIR",
     .help = "folder with autoencoder.*, cloob.* and diffusion.* (else $CCLD_MODEL)"},
    {.name = "checkpoint",
     .kind = OPTION_STRING,
     .value = &options.model.checkpoint,
     .argument = "FILE",
     .help = "the diffusion model, in place of the folder's"},
    {.name = "autoencoder",
     .kind = OPTION_STRING,
     .value = &options.model.autoencoder,
     .argument = "FILE",
     .help = "the autoencoder, in place of the folder's"},
    {.name = "cloob",
     .kind = OPTION_STRING,
     .value = &options.model.cloob,
     .argument = "FILE",
     .help = "the CLOOB model, in place of the folder's"},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .value = &options.pick,
     .argument = "WHICH",
     .help = "averaged or last weights, where a checkpoint has both",
     .choices = pick_names},
    {.name = "autoencoder-scale",
     .kind = OPTION_FLOAT,
     .value = &options.autoencoder_scale,
     .argument = "X",
     .help = "latents are multiplied by it to be decoded, 0 for what the checkpoint says",
     .max = 1e6},
    {.name = "prompts",
     .kind = OPTION_STRING,
     .value = &options.prompts,
     .argument = "FILE",
     .help = "every line is the prompt of a picture of its own (- is standard input)"},
    {.name = "images",
     .kind = OPTION_LIST,
     .value = &options.images,
     .argument = "FILE[:WEIGHT]",
     .help = "an image as prompt, combined with the others; may be repeated"},
    {.name = "guidance",
     .kind = OPTION_FLOAT,
     .value = &options.guidance,
     .argument = "X",
     .help = "weight of prompts that give none",
     .min = -CONDITIONING_MAX_WEIGHT,
     .max = CONDITIONING_MAX_WEIGHT},
    {.name = "guidance-start",
     .kind = OPTION_FLOAT,
     .value = &options.guidance_start,
     .argument = "T",
     .help = "timestep from which on there is guidance: pictures differ more where it is below 1",
     .max = 1},
    {.name = "number",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &options.count,
     .argument = "N",
     .help = "images of each picture",
     .min = 1,
     .max = 1e9},
    {.name = "first",
     .kind = OPTION_INT,
     .value = &options.first,
     .argument = "I",
     .help = "make images I to I+N-1 of the seed's sequence",
     .max = 1e9},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &options.seed,
     .argument = "S",
     .help = "where the noise comes from"},
    {.name = "embed-noise",
     .kind = OPTION_FLOAT,
     .value = &options.embed_noise,
     .argument = "X",
     .help = "noise added to the prompts' embeds, times their length; else what the checkpoint "
             "was trained with",
     .max = 1e3},
    {.name = "steps",
     .kind = OPTION_INT,
     .value = &options.steps,
     .argument = "N",
     .help = "times of the schedule to visit",
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
     .help = "noise that ddim adds: 0 for none, 1 for as much as ddpm",
     .max = 1},
    {.name = "schedule",
     .kind = OPTION_CHOICE,
     .value = &options.schedule,
     .argument = "NAME",
     .help = "which times are visited",
     .choices = schedule_names},
    {.name = "size",
     .kind = OPTION_SIZE,
     .value = &options.size,
     .argument = "HxW",
     .help = "pixels of a picture, multiples of 64 with most models, 0 for what the "
             "checkpoint was trained on, else 256",
     .min = 0,
     .max = 16384},
    {.name = "init",
     .kind = OPTION_STRING,
     .value = &options.init,
     .argument = "IMAGE",
     .help = "start from this image and not from noise alone"},
    {.name = "starting-timestep",
     .kind = OPTION_FLOAT,
     .value = &options.starting_time,
     .argument = "T",
     .help = "with --init: begin below this time; the more, the less is left of the image",
     .max = 1},
    {.name = "batch-size",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &options.batch_size,
     .argument = "N",
     .help = "images sampled at a time; decides memory, not results",
     .min = 1,
     .max = 4096},
    {.name = "low-memory",
     .kind = OPTION_FLAG,
     .value = &options.low_memory,
     .help = "one image and one condition at a time: slower, in little memory"},
    {0},
};

static const struct program program = {
    .name = "ccld-plms",
    .summary = "Samples pictures for prompts; writes them as a stream of PPM images.\n"
               "Prompts are TEXT[:WEIGHT]. All PROMPTs together make one picture; without any,\n"
               "each line of standard input is a picture of its own.",
    .usage = "[OPTION]... [PROMPT]...",
    .options = option_table,
};

static void read_lines(struct conditionings *c)
{
    struct error e;
    bool from_stdin = !options.prompts || strcmp(options.prompts, "-") == 0;
    char *source = from_stdin ? xstrdup("standard input") : xasprintf("'%s'", options.prompts);
    FILE *f = from_stdin ? stdin : fopen(options.prompts, "r");
    if (!f) {
        error_errno(&e, "cannot open %s", source);
        die("%s", e.text);
    }
    if (conditionings_add_lines(c, f, source, &options.images, options.guidance, &e) != 0)
        die("%s", e.text);
    if (!from_stdin)
        fclose(f);
    free(source);
}

static struct conditionings read_prompts(int prompts, char **prompt)
{
    struct conditionings c = {0};
    struct error e;
    if (prompts && options.prompts)
        die_usage("prompts as arguments and --prompts do not go together");
    bool terminal = !prompts && !options.prompts && isatty(STDIN_FILENO);
    if (!prompts && !terminal)
        read_lines(&c);
    bool images_alone = c.count == 0 && !options.prompts && options.images.count > 0;
    if ((prompts || images_alone) && conditionings_add(&c, prompts, (const char *const *)prompt,
                                                       &options.images, options.guidance, &e) != 0)
        die("%s", e.text);
    if (c.count == 0 && terminal)
        die_usage("no prompts: give them as arguments, with --prompts or on standard input");
    if (c.count == 0 && options.prompts && strcmp(options.prompts, "-") != 0)
        die("no prompts: '%s' has no text", options.prompts);
    if (c.count == 0)
        die("no prompts: standard input has no text");
    return c;
}

static void embed_prompts(struct conditionings *c, struct tape *t, struct model *m)
{
    struct error e;
    const struct cloob_sizes *sizes = cloob_sizes(m->cloob);
    bool texts = c->items[0].texts > 0;
    if (sizes->embed_width != unet_sizes(m->unet)->embed_width)
        die("'%s' makes embeds of %" PRId64 " numbers, '%s' takes %" PRId64, m->cloob_part.path,
            sizes->embed_width, m->unet_part.path, unet_sizes(m->unet)->embed_width);
    if (texts && !sizes->has_text)
        die("'%s' has no text tower", m->cloob_part.path);
    if (options.images.count && !sizes->has_image)
        die("'%s' has no image tower", m->cloob_part.path);
    if (conditionings_embed(c, t, m->cloob, &e) != 0)
        die("%s", e.text);
    model_drop(m, MODEL_CLOOB);
    device_trim(t->device);
}

/* The folder's name, or that of a checkpoint of its own. */
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
    const char *model;
    double embed_noise;
    int64_t written;
};

static int write_image(void *context, const struct image *image, int conditioning, int64_t index,
                       struct error *e)
{
    struct writer *w = context;
    const struct conditioning *c = &w->conditionings->items[conditioning];
    struct image_remarks remarks = {0};
    char number[40];
    image_remarks_set(&remarks, "prompt", c->label);
    snprintf(number, sizeof number, "%" PRIu64, options.seed);
    image_remarks_set(&remarks, "seed", number);
    snprintf(number, sizeof number, "%" PRId64, index);
    image_remarks_set(&remarks, "index", number);
    snprintf(number, sizeof number, "%" PRId64, options.steps);
    image_remarks_set(&remarks, "steps", number);
    image_remarks_set(&remarks, "method", sampler_method_names[options.method]);
    snprintf(number, sizeof number, "%.9g", c->guidance);
    image_remarks_set(&remarks, "guidance", number);
    if (options.guidance_start < 1) {
        snprintf(number, sizeof number, "%.9g", options.guidance_start);
        image_remarks_set(&remarks, "guidance_start", number);
    }
    if (w->embed_noise > 0) {
        snprintf(number, sizeof number, "%.9g", w->embed_noise);
        image_remarks_set(&remarks, "embed_noise", number);
    }
    image_remarks_set(&remarks, "model", w->model);
    if (image_stream_write(stdout, image, &remarks, e) != 0)
        output_failed(e);
    image_remarks_release(&remarks);
    w->written++;
    return 0;
}

static double embed_noise(const struct model *m)
{
    return isnan(options.embed_noise) ? model_embed_noise(&m->unet_part) : options.embed_noise;
}

static double autoencoder_scale(const struct model *m)
{
    double stored = unet_sizes(m->unet)->autoencoder_scale;
    if (options.autoencoder_scale > 0)
        return options.autoencoder_scale;
    if (!(stored > 0))
        die("'%s' does not say its autoencoder scale: give it with --autoencoder-scale",
            m->unet_part.path);
    return stored;
}

int main(int argc, char **argv)
{
    int prompts = options_parse(&program, argc, argv);
    output_begin_binary("pipe it into ccld-grid, or redirect it");
    if (options.eta > 0 && options.method != SAMPLER_DDIM)
        die_usage("--eta only goes with --method ddim");
    if (option_given("starting-timestep") && !options.init)
        die_usage("--starting-timestep only goes with --init");
    options.model.pick = options.pick;
    struct conditionings conditionings = read_prompts(prompts, argv + 1);

    struct error e;
    struct device *device = program_open_device();
    device->advice = "a smaller --batch-size, or --low-memory";
    struct tape tape;
    struct model *m;
    tape_init(&tape, device);
    if (model_open(&m, &options.model, MODEL_AUTOENCODER | MODEL_CLOOB | MODEL_UNET, device, &e))
        die("%s", e.text);
    struct size2d size = model_picture_size(&m->unet_part, options.size);
    struct sample_options sample = {
        .method = options.method,
        .schedule = options.schedule,
        .steps = (int)options.steps,
        .eta = options.eta,
        .seed = options.seed,
        .first = options.first,
        .count = options.count,
        .guidance_start = options.guidance_start,
        .embed_noise = embed_noise(m),
        .height = size.height,
        .width = size.width,
        .autoencoder_scale = autoencoder_scale(m),
        .init = options.init,
        .starting_time = options.starting_time,
        .batch_size = options.low_memory ? 1 : (int)options.batch_size,
        .low_memory = options.low_memory,
    };
    if (sample_check(&sample, m->unet, m->kl, &e) != 0)
        die("%s", e.text);
    embed_prompts(&conditionings, &tape, m);

    char *name = model_name(m->unet_part.path), duration[32];
    struct writer writer = {
        .conditionings = &conditionings, .model = name, .embed_noise = sample.embed_noise};
    double started = seconds_now();
    if (sample_run(&tape, &sample, m->unet, m->kl, &conditionings, write_image, &writer, &e) != 0)
        die("%s", e.text);
    inform("%" PRId64 " image%s in %s, autoencoder scale %.9g%s", writer.written,
           writer.written == 1 ? "" : "s", format_duration(duration, seconds_now() - started),
           sample.autoencoder_scale, options.autoencoder_scale > 0 ? "" : " (the checkpoint's)");
    free(name);
    model_close(m);
    conditionings_release(&conditionings);
    tape_release(&tape);
    device_close(device);
    return 0;
}
