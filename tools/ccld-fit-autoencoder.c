/* Trains a KL autoencoder on pictures. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/fit/autoencoder.h"
#include "common/fit/memory.h"
#include "common/fit/program.h"
#include "common/program/device.h"
#include "common/run/options.h"

static const char *const losses[] = {"l1", "l2", NULL};

static struct {
    struct fit_tool_options run;
    struct size2d size;
    const char *multipliers;
    int64_t base_channels, blocks, norm_groups, latent_channels, demo_every, demo_pictures,
        max_pixels;
    const char *perceptual;
    int64_t disc_start, disc_channels;
    double kl_weight, perceptual_weight, disc_weight, disc_lr;
    int loss;
    bool nul, decoder_only, flip, pil_compat;
} options = {
    .run = {FIT_TOOL_DEFAULTS, .betas = "0.5,0.9", .batch_size = 12, .lr = 4.5e-6},
    .size = {256, 256},
    .multipliers = "1,2,4,4",
    .base_channels = 128,
    .blocks = 2,
    .norm_groups = KL_NORM_GROUPS,
    .latent_channels = 4,
    .demo_every = 2000,
    .demo_pictures = 8,
    .max_pixels = IMAGE_DEFAULT_MAX_PIXELS,
    .kl_weight = 1e-6,
    .perceptual_weight = 1,
    .disc_start = -1,
    .disc_channels = 64,
    .disc_weight = 0.5,
};

static const struct option option_table[] = {
    FIT_TOOL_OPTIONS_BEGIN(options.run),
    {"null", '0', OPTION_FLAG, &options.nul, NULL,
     "paths on standard input end with NUL, not a line end", 0, 0, NULL},
    {"size", 0, OPTION_SIZE, &options.size, "HxW", "pixels of the pictures to train on", 8, 8192,
     NULL},
    {"flip", 0, OPTION_FLAG, &options.flip, NULL, "mirror every other picture", 0, 0, NULL},
    {"pil-compat", 0, OPTION_FLAG, &options.pil_compat, NULL,
     "colours as Pillow's convert('RGB'): no orientation, profile or alpha", 0, 0, NULL},
    {"max-pixels", 0, OPTION_INT, &options.max_pixels, "N", "refuse an image of more pixels", 1,
     1e12, NULL},
    {"base-channels", 0, OPTION_INT, &options.base_channels, "N", "width of the autoencoder", 1,
     65536, NULL},
    {"channel-multipliers", 0, OPTION_STRING, &options.multipliers, "LIST",
     "its widths at each resolution, in base channels", 0, 0, NULL},
    {"blocks", 0, OPTION_INT, &options.blocks, "N", "blocks of the encoder at each resolution", 1,
     7, NULL},
    {"norm-groups", 0, OPTION_INT, &options.norm_groups, "N", "groups of channels of its norms", 1,
     1024, NULL},
    {"latent-channels", 0, OPTION_INT, &options.latent_channels, "N", "channels of a latent", 1,
     1024, NULL},
    {"loss", 0, OPTION_CHOICE, &options.loss, "NAME", "how reconstructions are judged", 0, 0,
     losses},
    {"kl-weight", 0, OPTION_FLOAT, &options.kl_weight, "X",
     "weight of the posterior's divergence, against the sum of an image's errors", 0, 1e9, NULL},
    {"perceptual", 0, OPTION_STRING, &options.perceptual, "FILE",
     "weights of LPIPS (VGG16 and lin0 ... lin4): reconstructions are to look alike, too", 0, 0,
     NULL},
    {"perceptual-weight", 0, OPTION_FLOAT, &options.perceptual_weight, "X",
     "weight of LPIPS, against the mean of an image's errors", 0, 1e9, NULL},
    {"disc-start", 0, OPTION_INT, &options.disc_start, "N",
     "step from which a discriminator of patches learns and judges, -1: there is none", -1,
     FIT_TOOL_STEPS_MAX, NULL},
    {"disc-weight", 0, OPTION_FLOAT, &options.disc_weight, "X",
     "its weight, in that at which it pulls as hard as all else", 0, 1e9, NULL},
    {"disc-lr", 0, OPTION_FLOAT, &options.disc_lr, "RATE",
     "its learning rate, which follows the schedule of --lr, 0: the same as --lr", 0, 1, NULL},
    {"disc-channels", 0, OPTION_INT, &options.disc_channels, "N", "its width", 1, 1024, NULL},
    {"decoder-only", 0, OPTION_FLAG, &options.decoder_only, NULL,
     "leave the encoder as it is: latents stay valid", 0, 0, NULL},
    {"seed", 0, OPTION_SEED, &options.run.seed, "S", "of weights, order and noise", 0, 0, NULL},
    FIT_TOOL_OPTIONS_END(options.run),
    {"demo-every", 0, OPTION_INT, &options.demo_every, "N", "steps between demo grids", 1,
     FIT_TOOL_STEPS_MAX, NULL},
    {"demo-pictures", 0, OPTION_INT, &options.demo_pictures, "N",
     "pictures of a demo grid, 0 for no grids", 0, 64, NULL},
    {0},
};

static const struct program program = {
    .name = "ccld-fit-autoencoder",
    .summary = "Trains a KL autoencoder on image files.\n"
               "Without PATH, or where it is -, reads a list of paths from standard input.\n"
               "SIGTERM, SIGINT and SIGUSR1 make it write a checkpoint and end.",
    .usage = "[OPTION]... -o RUN [PATH]...\n[OPTION]... --resume RUN|CKPT [-o RUN] [PATH]...",
    .options = option_table,
};

/* What --init-from and --resume bring. */
#define ARCHITECTURE                                                                               \
    "base-channels", "channel-multipliers", "blocks", "norm-groups", "latent-channels"
static const char *const architecture_options[] = {ARCHITECTURE, NULL};
static const char *const fixed_by_resume[] = {ARCHITECTURE, "size", "decoder-only", NULL};
/* What a checkpoint does not keep. */
static const char *const not_saved[] = {"output", "resume", "null", NULL};
static const char *const not_saved_with_init_from[] = {"output", "resume", "null", ARCHITECTURE,
                                                       NULL};

#define LIST_NAME "images.list" /* in the run's folder */

#define DISC_LAYERS 3

/* LPIPS' weights, where it is wanted. */
static struct {
    struct weights *file;
    struct named_weights names;
} perceptual;

static void open_perceptual(void)
{
    struct error e;
    if (!options.perceptual)
        return;
    if (weights_open(&perceptual.file, options.perceptual, &e) ||
        names_resolve(&perceptual.names, perceptual.file, NET_LPIPS, PICK_RAW, &e))
        die("cannot read '%s': %s", options.perceptual, e.text);
    struct lpips *l;
    struct device *ref;
    if (device_open(&ref, "ref", &e) || lpips_load(&l, &perceptual.names, ref, &e))
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

static struct net_sizes parse_sizes(void)
{
    struct net_sizes sizes = {.latent = options.latent_channels,
                              .kl_channels = options.base_channels,
                              .kl_blocks = options.blocks,
                              .kl_groups = options.norm_groups};
    sizes.kl_levels = fit_tool_parse_multipliers(sizes.kl_multipliers, 1, 8, "channel-multipliers",
                                                 options.multipliers);
    if (options.base_channels % options.norm_groups != 0)
        die_usage("no such autoencoder: %" PRId64 " base channels are no multiple of %" PRId64,
                  options.base_channels, options.norm_groups);
    return sizes;
}

static struct image_set *open_images(int operands, char **argv, const struct fit_tool_origin *o)
{
    struct image_set_options set = {
        .height = options.size.height,
        .width = options.size.width,
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .holdout = options.run.holdout,
        .is_signed = true,
        .cache_bytes = IMAGE_SET_CACHE_DEFAULT,
    };
    struct image_set *images;
    struct error e;
    struct path_source list;
    int status;
    bool from_stdin = operands == 1 && strcmp(argv[1], "-") == 0;
    if (operands == 0 && o->at.checkpoint) {
        char *file = path_join(o->at.run, LIST_NAME);
        status = image_set_reopen(&images, file, &set, &e);
        free(file);
    } else {
        if (operands > 0 && !from_stdin)
            path_source_arguments(&list, operands, argv + 1);
        else if (isatty(STDIN_FILENO))
            die_usage("no images: name files, or give a list of paths on standard input");
        else
            path_source_stream(&list, STDIN_FILENO, options.nul ? '\0' : '\n');
        status = image_set_open(&images, &list, &set, &e);
        path_source_release(&list);
    }
    if (status != 0)
        die("cannot train: %s", e.text);
    return images;
}

static struct parameters *make_parameters(const struct fit_tool_origin *o, struct device *device)
{
    struct error e;
    struct parameters *p;
    if (o->at.checkpoint) {
        if (checkpoint_load_parameters(&p, &o->saved, o->at.checkpoint, device, &e) != 0)
            die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
        return p;
    }
    if (options.run.init_from) {
        bool (*fixed)(const char *) = options.decoder_only ? autoencoder_is_encoder : NULL;
        if (fit_read_weights(&p, options.run.init_from, NET_KL, fixed, device, &e) != 0)
            die("%s", e.text);
        return p;
    }
    struct net_sizes sizes = parse_sizes();
    struct architecture architecture = {0};
    kl_architecture(&architecture, &sizes);
    p = parameters_new(&architecture, NET_KL, options.run.seed, device);
    architecture_release(&architecture);
    return p;
}

/* That of the checkpoint is gone on with; a published one may be beside the weights to begin with.
 */
static void add_discriminator(struct parameters *p)
{
    struct error e;
    if (options.disc_start < 0 || p->companion)
        return;
    if (options.run.init_from && fit_read_weights(&p->companion, options.run.init_from,
                                                  NET_DISCRIMINATOR, NULL, p->device, &e) == 0)
        return;
    struct architecture architecture = {0};
    patch_discriminator_architecture(&architecture, 3, options.disc_channels, DISC_LAYERS);
    p->companion = parameters_new(&architecture, NET_DISCRIMINATOR, options.run.seed, p->device);
    architecture_release(&architecture);
}

/* Of pictures, what LPIPS and the discriminator want. */
static int64_t least_side(const struct parameters *b)
{
    struct named_weights names;
    struct patch_discriminator *p;
    struct error e;
    int64_t side = options.perceptual ? LPIPS_LEAST_SIDE : 1;
    if (!b->companion)
        return side;
    parameters_names(&names, b->companion, ARRAY_WEIGHTS);
    if (patch_discriminator_load(&p, &names, b->device, &e) != 0)
        die("cannot train with this discriminator: %s", e.text);
    int64_t of_discriminator = patch_discriminator_sizes(p)->least_side;
    patch_discriminator_free(p);
    names_release(&names);
    return of_discriminator > side ? of_discriminator : side;
}

/* Sizes of the network, which must suit the pictures'. */
static struct kl_sizes check_network(const struct parameters *p)
{
    struct named_weights names;
    struct kl *kl;
    struct error e;
    parameters_names(&names, p, ARRAY_WEIGHTS);
    if (p->net != NET_KL || kl_load(&kl, &names, p->device, &e) != 0)
        die("cannot train: %s", p->net == NET_KL ? e.text : "it is no autoencoder");
    struct kl_sizes sizes = *kl_sizes(kl);
    kl_free(kl);
    names_release(&names);
    if (!sizes.has_encoder || !sizes.has_decoder)
        die("cannot train: the autoencoder has no %s", sizes.has_encoder ? "decoder" : "encoder");
    if (sizes.image_channels != 3)
        die("cannot train: the autoencoder is for pictures of %" PRId64 " channels, not 3",
            sizes.image_channels);
    if (options.size.height % sizes.factor || options.size.width % sizes.factor)
        die("cannot train: size %dx%d: the autoencoder wants multiples of %d", options.size.height,
            options.size.width, sizes.factor);
    int64_t least = least_side(p);
    if (options.size.height < least || options.size.width < least)
        die("cannot train: size %dx%d: LPIPS or the discriminator wants %" PRId64 "x%" PRId64
            " at least",
            options.size.height, options.size.width, least, least);
    return sizes;
}

static struct fit_data data_of(const struct image_set *images, const struct kl_sizes *sizes)
{
    struct fit_data data = {
        .store = {.latent_channels = (int)sizes->z_channels,
                  .latent_height = options.size.height / sizes->factor,
                  .latent_width = options.size.width / sizes->factor,
                  .image_height = options.size.height,
                  .image_width = options.size.width,
                  .embed_dtype = DTYPE_F32},
        .order = image_set_order(images),
    };
    strcpy(data.store.preprocessing, options.pil_compat ? "pil" : "display");
    image_set_hash(data.hash, images);
    return data;
}

static void prepare_data(struct fit_autoencoder *f, const struct fit_tool_origin *o,
                         const struct kl_sizes *sizes)
{
    struct error e;
    struct fit_data data = data_of(f->images, sizes);
    struct training_state *state = f->loop.state;
    int64_t effective = fit_loop_effective_batch(&f->loop);
    if (order_steps_per_epoch(data.order, effective) == 0)
        die("cannot train: %" PRId64 " images to train on do not fill an effective batch of "
            "%" PRId64,
            order_training_count(data.order), effective);
    if (o->at.checkpoint && fit_check_data(state, &o->saved, &data, effective, &e) != 0)
        die("cannot go on from '%s' with these data: %s", o->at.checkpoint, e.text);
    fit_fill_state(state, &data);
    state->seed = options.run.seed;
    saved_options_store(state, &program,
                        options.run.init_from ? not_saved_with_init_from : not_saved);
    if (f->loop.options.rate.steps == 0)
        f->loop.options.rate.steps =
            options.run.epochs * order_steps_per_epoch(data.order, effective);
}

static int64_t needed_memory(const void *context, int64_t batch, int64_t accumulate)
{
    const struct fit_autoencoder *f = context;
    struct autoencoder_step_options o = f->step;
    o.batch = batch;
    o.accumulate = accumulate;
    return autoencoder_step_memory(f->loop.parameters, &o, f->loop.parameters->device,
                                   options.size.height, options.size.width);
}

static void announce(const struct fit_autoencoder *f, const struct fit_tool_origin *o,
                     const struct kl_sizes *sizes)
{
    struct error e;
    int64_t batch = f->step.batch, accumulate = f->step.accumulate;
    if (fit_check_batch_memory(f->loop.parameters->device, batch, accumulate, needed_memory, f,
                               &e) != 0)
        die("too little memory to train: %s", e.text);
    fit_loop_announce(&f->loop, needed_memory(f, batch, accumulate));
    fit_tool_announce_origin(o);
    inform("pictures of %dx%d, latents of %" PRId64 "x%dx%d%s", options.size.height,
           options.size.width, sizes->z_channels, options.size.height / sizes->factor,
           options.size.width / sizes->factor, options.decoder_only ? ", decoder only" : "");
}

static void open_run(struct fit_autoencoder *f, const struct fit_tool_origin *o, const char *folder)
{
    struct error e;
    if (fit_open_run(&f->loop.run, &f->loop.options.saved, folder, &o->at,
                     checkpoint_bytes(f->loop.parameters), &e) != 0)
        die("cannot train in '%s': %s", folder, e.text);
    char *list = path_join(folder, LIST_NAME);
    if (image_set_save(f->images, list, &e) != 0)
        die("cannot write '%s': %s", list, e.text);
    free(list);
}

static struct fit_autoencoder parse_fit(void)
{
    struct adamw_options adamw;
    struct fit_loop_options loop = fit_tool_loop_options(&options.run, &adamw);
    loop.demo_every = options.demo_every;
    double numbers = 3.0 * options.size.height * options.size.width;
    return (struct fit_autoencoder){
        .loop = {.options = loop, .collective = collective_alone(), .stop = &fit_tool_stop},
        .step = {.seed = options.run.seed,
                 .batch = loop.batch,
                 .accumulate = loop.accumulate,
                 .l2 = options.loss == 1,
                 .kl_weight = options.kl_weight / numbers,
                 .clip_grad = options.run.clip_grad,
                 .adamw = adamw,
                 .lpips = perceptual.file ? &perceptual.names : NULL,
                 .perceptual_weight = options.perceptual_weight,
                 .disc_weight = options.disc_weight,
                 .disc_rate = options.disc_lr > 0 && options.run.lr > 0
                                  ? options.disc_lr / options.run.lr
                                  : 1,
                 .disc_start = options.disc_start},
        .flip = options.flip,
        .demo_pictures = options.demo_pictures,
    };
}

static int run_fit(const void *context, enum fit_end *end, struct error *e)
{
    return fit_autoencoder_run(context, end, e);
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    struct fit_tool_origin origin = {0};
    struct training_state state;
    fit_tool_read_origin(&origin, &options.run, &program, fixed_by_resume, not_saved);
    const char *folder = fit_tool_run_folder(&options.run, &origin, architecture_options);
    if (options.decoder_only && !options.run.init_from && !origin.at.checkpoint)
        die_usage("--decoder-only needs an encoder: give --init-from");
    parse_sizes();
    fit_tool_prepare_state(&state, &origin);
    open_perceptual();
    struct fit_autoencoder fit = parse_fit();
    fit.loop.state = &state;
    fit.loop.options.resumed = origin.at.checkpoint != NULL;
    fit.images = open_images(operands, argv, &origin);
    fit.loop.order = image_set_order(fit.images);
    struct device *device = program_open_device();
    device->advice = "a smaller --batch-size with more --accumulate";
    fit.loop.parameters = make_parameters(&origin, device);
    add_discriminator(fit.loop.parameters);
    struct kl_sizes sizes = check_network(fit.loop.parameters);
    prepare_data(&fit, &origin, &sizes);
    open_run(&fit, &origin, folder);
    announce(&fit, &origin, &sizes);
    fit_tool_train(&state, fit.loop.run, fit_loop_effective_batch(&fit.loop), run_fit, &fit);

    run_close(fit.loop.run);
    parameters_free(fit.loop.parameters);
    device_close(device);
    image_set_close(fit.images);
    close_perceptual();
    collective_close(fit.loop.collective);
    training_state_release(&state);
    fit_tool_release_origin(&origin);
    return 0;
}
