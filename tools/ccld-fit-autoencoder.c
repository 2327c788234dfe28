/* Trains a KL autoencoder on images. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/fit/autoencoder.h"
#include "common/fit/trainer.h"
#include "common/train/network_views.h"
#include "formats/images/image.h"

static const char *const losses[] = {"l1", "l2", NULL};

static struct {
    struct size2d size;
    const char *multipliers, *perceptual;
    int64_t base_channels, blocks, norm_groups, latent_channels, disc_channels, max_pixels;
    double kl_weight, disc_lr;
    int loss;
    bool nul, decoder_only, pil_compat, allow_truncated;
} options = {
    .size = {256, 256},
    .multipliers = "1,2,4,4",
    .base_channels = 128,
    .blocks = 2,
    .norm_groups = KL_NORM_GROUPS,
    .latent_channels = 4,
    .disc_channels = 64,
    .max_pixels = IMAGE_DEFAULT_MAX_PIXELS,
    .kl_weight = 1e-6,
};

static struct fit_autoencoder fit = {
    .loop = {.options = {FIT_DEFAULTS,
                         .step = {.batch = 12, .accumulate = 1, .adamw = {.epsilon = 1e-8}},
                         .rate = {.base = 4.5e-6}, .demo_every = 2000},
             .functions = &fit_autoencoder_functions},
    .step = {.perceptual_weight = 1, .disc_weight = 0.5, .disc_start = -1},
    .demo_images = 8,
};

static const struct program program;
static const char *const architecture_options[] = {"base-channels", "channel-multipliers", "blocks",
                                                   "norm-groups",   "latent-channels",     NULL};
static const char *const fixed_options[] = {"size", "decoder-only", NULL};

static struct trainer trainer = {
    .program = &program,
    .net = NET_KL,
    .architecture = architecture_options,
    .fixed = fixed_options,
    .advice = "a smaller --batch-size with more --accumulate",
    .sample = "image",
    .betas = "0.5,0.9",
};

static const struct option option_table[] = {
    FIT_OPTIONS_BEGIN(trainer, fit.loop.options),
    {.name = "null",
     .letter = '0',
     .kind = OPTION_FLAG,
     .value = &options.nul,
     .help = "entries on standard input end with a zero byte, not a newline"},
    {.name = "size",
     .kind = OPTION_SIZE,
     .value = &options.size,
     .argument = "HxW",
     .help = "height and width of the images to train on",
     .min = 8,
     .max = 8192},
    {.name = "flip",
     .kind = OPTION_FLAG,
     .value = &fit.flip,
     .help = "mirror each image left to right with a probability of one half"},
    FIT_OPTIONS_IMAGES(options),
    {.name = "base-channels",
     .kind = OPTION_INT,
     .value = &options.base_channels,
     .argument = "N",
     .help = "base width of the autoencoder",
     .min = 1,
     .max = 65536},
    {.name = "channel-multipliers",
     .kind = OPTION_STRING,
     .value = &options.multipliers,
     .argument = "LIST",
     .help = "widths at each resolution, as multiples of the base width"},
    {.name = "blocks",
     .kind = OPTION_INT,
     .value = &options.blocks,
     .argument = "N",
     .help = "residual blocks of the encoder at each resolution",
     .min = 1,
     .max = 7},
    {.name = "norm-groups",
     .kind = OPTION_INT,
     .value = &options.norm_groups,
     .argument = "N",
     .help = "number of groups of the group norms",
     .min = 1,
     .max = 1024},
    {.name = "latent-channels",
     .kind = OPTION_INT,
     .value = &options.latent_channels,
     .argument = "N",
     .help = "channels of a latent",
     .min = 1,
     .max = 1024},
    {.name = "loss",
     .kind = OPTION_CHOICE,
     .value = &options.loss,
     .argument = "NAME",
     .help = "reconstruction error",
     .choices = losses},
    {.name = "kl-weight",
     .kind = OPTION_FLOAT,
     .value = &options.kl_weight,
     .argument = "X",
     .help = "weight of the KL divergence, relative to an image's summed errors",
     .max = 1e9},
    {.name = "perceptual",
     .kind = OPTION_STRING,
     .value = &options.perceptual,
     .argument = "FILE",
     .help = "add LPIPS to the loss, with the weights in FILE (VGG16, lin0 to lin4)"},
    {.name = "perceptual-weight",
     .kind = OPTION_FLOAT,
     .value = &fit.step.perceptual_weight,
     .argument = "X",
     .help = "weight of LPIPS, relative to the mean error",
     .max = 1e9},
    {.name = "disc-start",
     .kind = OPTION_INT,
     .value = &fit.step.disc_start,
     .argument = "N",
     .help = "step from which a PatchGAN discriminator is used, -1 for never",
     .min = -1,
     .max = FIT_STEPS_MAX},
    {.name = "disc-weight",
     .kind = OPTION_FLOAT,
     .value = &fit.step.disc_weight,
     .argument = "X",
     .help = "factor of the adaptive weight of the adversarial term",
     .max = 1e9},
    {.name = "disc-lr",
     .kind = OPTION_FLOAT,
     .value = &options.disc_lr,
     .argument = "RATE",
     .help = "learning rate of the discriminator, 0 for the same as --lr",
     .max = 1},
    {.name = "disc-channels",
     .kind = OPTION_INT,
     .value = &options.disc_channels,
     .argument = "N",
     .help = "channels after the discriminator's first layer",
     .min = 1,
     .max = 1024},
    {.name = "decoder-only",
     .kind = OPTION_FLAG,
     .value = &options.decoder_only,
     .help = "train only the decoder: latents stay valid"},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &fit.loop.options.step.seed,
     .argument = "S",
     .help = "seed of weights, data order, --flip and noise"},
    FIT_OPTIONS_END(fit.loop.options),
    {.name = "demo-every",
     .kind = OPTION_INT,
     .value = &fit.loop.options.demo_every,
     .argument = "N",
     .help = "steps between demo grids",
     .min = 1,
     .max = FIT_STEPS_MAX},
    {.name = "demo-pictures",
     .kind = OPTION_INT,
     .value = &fit.demo_images,
     .argument = "N",
     .help = "images of a demo grid, 0 for no demo grids",
     .max = 64},
    {0},
};

static const struct program program = {
    .name = "ccld-fit-autoencoder",
    .summary = "Trains a KL autoencoder on images. A PATH is an image, a folder or a tar or zip\n"
               "archive of images.\n"
               "Without PATH, or if it is -, reads a list of paths from standard input.\n"
               "SIGINT, SIGTERM, SIGUSR1 and SIGHUP stop the run after writing a checkpoint.",
    .usage = "[OPTION]... -o RUN [PATH]...\n[OPTION]... --resume RUN|CKPT [-o RUN] [PATH]...",
    .options = option_table,
    .formats = image_formats,
};

#define LIST_NAME "images.list" /* in the run's folder */

#define DISC_LAYERS 3

/* The weights of --perceptual. */
static struct {
    struct weights *file; /* NULL without it */
    struct named_weights names;
} perceptual;

static void open_perceptual(void)
{
    struct error e;
    if (!options.perceptual)
        return;
    if (weights_open(&perceptual.file, options.perceptual, &e) != 0 ||
        names_resolve(&perceptual.names, perceptual.file, NET_LPIPS, PICK_RAW, &e) != 0)
        die("cannot read '%s': %s", options.perceptual, e.text);
    struct lpips *l;
    struct device *ref;
    if (device_open(&ref, "ref", &e) != 0 || lpips_load(&l, &perceptual.names, ref, &e) != 0)
        die("cannot use '%s': %s", options.perceptual, e.text);
    lpips_free(l);
    device_close(ref);
}

static void close_perceptual(void)
{
    if (!perceptual.file)
        return;
    names_release(&perceptual.names);
    weights_close(perceptual.file);
}

static struct kl_config parse_config(void)
{
    struct kl_config config = {.latent_channels = options.latent_channels,
                               .base_channels = options.base_channels,
                               .blocks = options.blocks,
                               .norm_groups = options.norm_groups};
    config.levels = trainer_parse_multipliers(config.multipliers, 1, KL_LEVELS_MAX,
                                              "channel-multipliers", options.multipliers);
    if (options.base_channels % options.norm_groups != 0)
        die_usage("--base-channels %" PRId64 " is not a multiple of --norm-groups %" PRId64,
                  options.base_channels, options.norm_groups);
    return config;
}

static void set_step(void)
{
    const struct fit_options *o = &fit.loop.options;
    double values = 3.0 * options.size.height * options.size.width; /* of an image */
    fit.step.l2 = options.loss == 1;
    fit.step.kl_weight = options.kl_weight / values;
    fit.step.lpips = perceptual.file ? &perceptual.names : NULL;
    fit.step.disc_rate =
        options.disc_lr > 0 && o->rate.base > 0 ? options.disc_lr / o->rate.base : 1;
    fit.loop.demos = fit.demo_images > 0;
}

static void open_images(int operands, char **argv)
{
    struct image_set_options set = {
        .height = options.size.height,
        .width = options.size.width,
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .allow_truncated = options.allow_truncated,
        .holdout = fit.loop.options.holdout,
        .is_signed = true,
        .cache_bytes = IMAGE_SET_CACHE_DEFAULT,
    };
    fit.images =
        trainer_open_images(&trainer, &set, operands, argv, options.nul, LIST_NAME,
                            "no images given: name files, or list their paths on standard input");
}

/* A checkpoint may have brought one, and the file of --init-from may hold one, too. */
static void add_discriminator(struct parameters *p)
{
    struct error e;
    if (fit.step.disc_start < 0 || p->companion)
        return;
    if (trainer.init_from && parameters_from_file(&p->companion, trainer.init_from,
                                                  NET_DISCRIMINATOR, NULL, p->device, &e) == 0)
        return;
    struct architecture architecture = {0};
    patch_discriminator_architecture(&architecture, 3, options.disc_channels, DISC_LAYERS);
    p->companion =
        parameters_new(&architecture, NET_DISCRIMINATOR, fit.loop.options.step.seed, p->device);
    architecture_release(&architecture);
}

/* The smallest side of images that LPIPS and the discriminator accept. */
static int64_t least_side(const struct parameters *p)
{
    struct network_view discriminator = {0};
    struct error e;
    int64_t side = perceptual.file ? LPIPS_LEAST_SIDE : 1;
    if (!p->companion)
        return side;
    if (network_view_open(&discriminator, &patch_discriminator_network, p->companion, ARRAY_WEIGHTS,
                          &e) != 0)
        die("cannot train with this discriminator: %s", e.text);
    int64_t of_discriminator = patch_discriminator_sizes(discriminator.network)->least_side;
    network_view_release(&discriminator);
    return of_discriminator > side ? of_discriminator : side;
}

/* Returns the sizes of the network, which must fit the images'. */
static struct kl_sizes check_network(const struct parameters *p)
{
    struct network_view kl = {0};
    struct error e;
    if (p->net != NET_KL)
        die("cannot train: not an autoencoder");
    if (network_view_open(&kl, &kl_network, p, ARRAY_WEIGHTS, &e) != 0)
        die("cannot train: %s", e.text);
    struct kl_sizes sizes = *kl_sizes(kl.network);
    network_view_release(&kl);
    if (!sizes.has_encoder || !sizes.has_decoder)
        die("cannot train: the autoencoder has no %s", sizes.has_encoder ? "decoder" : "encoder");
    if (sizes.image_channels != 3)
        die("cannot train: the autoencoder is for images with %" PRId64 " channels, not 3",
            sizes.image_channels);
    if (options.size.height % sizes.factor || options.size.width % sizes.factor)
        die("cannot train: size %dx%d: the autoencoder needs multiples of %d", options.size.height,
            options.size.width, sizes.factor);
    int64_t least = least_side(p);
    if (options.size.height < least || options.size.width < least)
        die("cannot train: size %dx%d: LPIPS or the discriminator needs at least %" PRId64
            "x%" PRId64,
            options.size.height, options.size.width, least, least);
    return sizes;
}

static struct kl_sizes plan_network(void)
{
    struct kl_config config = parse_config();
    struct architecture architecture = {0};
    kl_architecture(&architecture, &config);
    trainer_plan_parameters(&trainer, &architecture,
                            options.decoder_only ? autoencoder_is_encoder : NULL);
    add_discriminator(fit.loop.parameters);
    return check_network(fit.loop.parameters);
}

static void set_data(const struct kl_sizes *sizes)
{
    struct run_data data;
    trainer_describe_images(&data, fit.images);
    data.store.latent_channels = (int)sizes->latent_channels;
    data.store.latent_height = options.size.height / sizes->factor;
    data.store.latent_width = options.size.width / sizes->factor;
    trainer_set_data(&trainer, &data);
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    trainer_expect_list(&trainer, operands, argv);
    trainer_begin(&trainer, &fit.loop);
    if (options.decoder_only && trainer_is_from_scratch(&trainer))
        die_usage("--decoder-only needs an encoder: give --init-from");
    parse_config();
    option_requires("perceptual-weight", options.perceptual, "--perceptual");
    option_requires("disc-weight", fit.step.disc_start >= 0, "--disc-start");
    option_requires("disc-lr", fit.step.disc_start >= 0, "--disc-start");
    option_requires("disc-channels", fit.step.disc_start >= 0, "--disc-start");
    open_perceptual();
    set_step();
    open_images(operands, argv);
    struct kl_sizes sizes = plan_network();
    set_data(&sizes);
    trainer_make_parameters(&trainer);
    add_discriminator(fit.loop.parameters);
    trainer_run_folder(&trainer);
    trainer_save_images(&trainer, fit.images, LIST_NAME);
    trainer_announce(&trainer);
    inform("images of %dx%d, latents of %" PRId64 "x%dx%d%s", options.size.height,
           options.size.width, sizes.latent_channels, options.size.height / sizes.factor,
           options.size.width / sizes.factor, options.decoder_only ? ", decoder only" : "");
    trainer_run(&trainer);
    trainer_end(&trainer);
    image_set_close(fit.images);
    close_perceptual();
    return 0;
}
