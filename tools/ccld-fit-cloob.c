/* Trains CLOOB on image-caption pairs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/fit/cloob.h"
#include "common/fit/trainer.h"
#include "formats/images/image.h"
#include "formats/text/clip_bpe.h"

static struct {
    struct cloob_config net;
    int64_t size, max_pixels;
    const char *caption_key;
    bool text_only, null_separated, pil_compat, allow_truncated;
} options = {
    .max_pixels = IMAGE_DEFAULT_MAX_PIXELS,
};

static struct fit_cloob fit = {
    .loop = {.options = {FIT_DEFAULTS,
                         .step = {.batch = 128,
                                  .accumulate = 1,
                                  /* epsilon as in the reference */
                                  .adamw = {.epsilon = 1e-6, .weight_decay = 0.1}},
                         .rate = {.base = 1e-4,
                                  .schedule = LEARNING_RATE_COSINE,
                                  .warmup = 2000,
                                  .exponential_warmup = true}},
             .functions = &fit_cloob_functions},
    .step = {.inv_tau = CLOOB_INV_TAU, .scale_hopfield = CLOOB_SCALE_HOPFIELD},
};

static const struct program program;
static const char *const architecture_options[] = {
    "image-size",  "patch-size", "width",      "layers", "text-width",
    "text-layers", "context",    "vocabulary", "embed",  NULL};
static const char *const fixed_options[] = {"text-only", NULL};

static struct trainer trainer = {
    .program = &program,
    .net = NET_CLOOB,
    .architecture = architecture_options,
    .fixed = fixed_options,
    .advice = "a smaller --batch-size with more --accumulate",
    .sample = "pair",
    .betas = "0.9,0.98",
};

static const struct option option_table[] = {
    FIT_OPTIONS_BEGIN(trainer, fit.loop.options),
    {.name = "inv-tau",
     .kind = OPTION_FLOAT,
     .value = &fit.step.inv_tau,
     .argument = "X",
     .help = "inverse temperature of InfoLOOB",
     .min = 1e-3,
     .max = 1e4},
    {.name = "scale-hopfield",
     .kind = OPTION_FLOAT,
     .value = &fit.step.scale_hopfield,
     .argument = "X",
     .help = "inverse temperature of the Hopfield retrieval",
     .max = 1e4},
    {.name = "image-size",
     .kind = OPTION_INT,
     .value = &options.net.image_size,
     .argument = "N",
     .help = "height and width of the images that the network sees",
     .min = 1,
     .max = 4096},
    {.name = "patch-size",
     .kind = OPTION_INT,
     .value = &options.net.patch_size,
     .argument = "N",
     .help = "height and width of a patch",
     .min = 1,
     .max = 4096},
    {.name = "width",
     .kind = OPTION_INT,
     .value = &options.net.image_width,
     .argument = "N",
     .help = "width of the image tower",
     .min = 64,
     .max = 65536},
    {.name = "layers",
     .kind = OPTION_INT,
     .value = &options.net.image_layers,
     .argument = "N",
     .help = "layers of the image tower",
     .min = 1,
     .max = 128},
    {.name = "text-width",
     .kind = OPTION_INT,
     .value = &options.net.text_width,
     .argument = "N",
     .help = "width of the text tower",
     .min = 64,
     .max = 65536},
    {.name = "text-layers",
     .kind = OPTION_INT,
     .value = &options.net.text_layers,
     .argument = "N",
     .help = "layers of the text tower",
     .min = 1,
     .max = 128},
    {.name = "context",
     .kind = OPTION_INT,
     .value = &options.net.context,
     .argument = "N",
     .help = "context length in tokens, including start and end token",
     .min = 3,
     .max = 65536},
    {.name = "vocabulary",
     .kind = OPTION_INT,
     .value = &options.net.vocabulary,
     .argument = "N",
     .help = "vocabulary size: 514 tokens and CLIP's first merges",
     .min = 514,
     .max = CLIP_BPE_VOCABULARY_MAX},
    {.name = "embed",
     .kind = OPTION_INT,
     .value = &options.net.embed_width,
     .argument = "N",
     .help = "size of an embedding",
     .min = 1,
     .max = 65536},
    {.name = "size",
     .kind = OPTION_INT,
     .value = &options.size,
     .argument = "N",
     .help = "make squares of this side first, as ccld-encode does, 0 for --image-size",
     .max = 65536},
    {.name = "text-only",
     .kind = OPTION_FLAG,
     .value = &options.text_only,
     .help = "train only the text tower: image embeddings stay valid"},
    {.name = "flip",
     .kind = OPTION_FLAG,
     .value = &fit.flip,
     .help = "mirror each image left to right with a probability of one half"},
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &options.null_separated,
     .help = "entries on standard input end with a zero byte, not a newline"},
    {.name = "caption-key",
     .kind = OPTION_STRING,
     .value = &options.caption_key,
     .argument = "KEY",
     .help = "in archives, take captions from KEY of the .json files"},
    FIT_OPTIONS_IMAGES(options),
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &fit.loop.options.step.seed,
     .argument = "S",
     .help = "seed of weights, data order and --flip"},
    FIT_OPTIONS_END(fit.loop.options),
    {0},
};

static const struct program program = {
    .name = "ccld-fit-cloob",
    .summary = "Trains CLOOB on image-caption pairs. A PATH is an image, a folder or a tar or zip\n"
               "archive of images, with the caption of each in a file of its name that ends in\n"
               ".txt. Without PATH, standard input lists them, one per line: PATH<tab>CAPTION,\n"
               "or PATH alone.\n"
               "SIGINT, SIGTERM, SIGUSR1 and SIGHUP stop the run after writing a checkpoint.",
    .usage = "[OPTION]... -o RUN [PATH]...\n[OPTION]... --resume RUN|CKPT [-o RUN]",
    .options = option_table,
    .formats = image_formats,
};

#define LIST_NAME "pairs.list" /* in the run's folder */

static void check_sizes(void)
{
    const struct cloob_config *n = &options.net;
    const struct step_options *step = &fit.loop.options.step;
    if (n->image_size % n->patch_size != 0)
        die_usage("--image-size %" PRId64 " is not a multiple of --patch-size %" PRId64,
                  n->image_size, n->patch_size);
    if (n->image_width % HEAD_WIDTH != 0 || n->text_width % HEAD_WIDTH != 0)
        die_usage("--%s %" PRId64 " is not a multiple of %d",
                  n->image_width % HEAD_WIDTH ? "width" : "text-width",
                  n->image_width % HEAD_WIDTH ? n->image_width : n->text_width, HEAD_WIDTH);
    if (step_effective_batch(step, fit.loop.collective) < 2)
        die_usage("the loss contrasts pairs: --batch-size times --accumulate must be at least 2");
}

static struct cloob_sizes plan_network(void)
{
    struct architecture architecture = {0};
    struct cloob_sizes sizes;
    struct error e;
    cloob_architecture(&architecture, &options.net);
    trainer_plan_parameters(&trainer, &architecture,
                            options.text_only ? cloob_is_image_tower : NULL);
    if (fit_cloob_sizes(&sizes, fit.loop.parameters, &e) != 0)
        die("cannot train this network: %s", e.text);
    return sizes;
}

static struct image_set *open_images(const struct cloob_sizes *sizes, int operands, char **argv)
{
    int side = (int)(options.size ? options.size : sizes->image_size);
    struct image_set_options set = {
        .height = side,
        .width = side,
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .allow_truncated = options.allow_truncated,
        .holdout = fit.loop.options.holdout,
        .captions = true,
        .caption_key = options.caption_key,
        .cache_bytes = IMAGE_SET_CACHE_DEFAULT,
    };
    return trainer_open_images(&trainer, &set, operands, argv, options.null_separated, LIST_NAME,
                               "no pairs given: name files, or list them on standard input");
}

static void set_data(const struct cloob_sizes *sizes)
{
    struct run_data data;
    trainer_describe_images(&data, fit.images);
    data.store.embed_size = (int)sizes->embed_width;
    trainer_set_data(&trainer, &data);
}

int main(int argc, char **argv)
{
    options.net = cloob_published;
    int operands = options_parse(&program, argc, argv);
    trainer_expect_list(&trainer, operands, argv);
    trainer_begin(&trainer, &fit.loop);
    if (options.text_only && trainer_is_from_scratch(&trainer))
        die_usage("--text-only needs an image tower: give --init-from");
    check_sizes();
    struct cloob_sizes sizes = plan_network();
    fit.images = open_images(&sizes, operands, argv);
    set_data(&sizes);
    trainer_make_parameters(&trainer);
    trainer_run_folder(&trainer);
    trainer_save_images(&trainer, fit.images, LIST_NAME);
    trainer_announce(&trainer);
    if (options.text_only)
        inform("training the text tower only");
    trainer_run(&trainer);
    trainer_end(&trainer);
    image_set_close(fit.images);
    return 0;
}
