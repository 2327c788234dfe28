/* Trains a U-Net on shard stores. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/data/embed_neighbours.h"
#include "common/data/path_list.h"
#include "common/fit/trainer.h"
#include "common/fit/unet.h"
#include "common/nets/model.h"
#include "common/run/options.h"
#include "common/score/neighbours.h"

static struct {
    const char *multipliers, *demo_prompts, *only, *except;
    struct model_paths model;
    int64_t base_channels, mapping_width, demo_grid, score_images;
    double autoencoder_scale;
} options = {
    .multipliers = "4,4,8,8",
    .base_channels = 128,
    .mapping_width = UNET_COND_WIDTH,
};

static struct fit_unet fit = {
    .loop = {.options = {FIT_DEFAULTS,
                         .step = {.batch = 64, .accumulate = 1, .adamw = ADAMW_DEFAULTS},
                         .rate = {.base = 3e-5}, .demo_every = 2000},
             .functions = &fit_unet_functions},
    .step = {.uncond_prob = 0.2},
};

static const struct program program;
static const char *const architecture_options[] = {"base-channels", "channel-multipliers",
                                                   "mapping-width", NULL};

/* Another optimizer's moments are of no use to it. */
static const char *const fixed_options[] = {"optimizer", NULL};

static struct trainer trainer = {
    .program = &program,
    .net = NET_UNET,
    .fixed = fixed_options,
    .architecture = architecture_options,
    .advice = "a smaller --batch-size with more --accumulate, or --recompute",
    .sample = "image",
    .betas = "0.9,0.999",
};

static const struct option option_table[] = {
    FIT_OPTIONS_BEGIN(trainer, fit.loop.options),
    {.name = "optimizer",
     .kind = OPTION_CHOICE,
     .value = &fit.loop.options.step.optimizer,
     .choices = optimizers,
     .argument = "NAME",
     .help = "optimizer of 3x3 kernels; AdamW updates all other weights"},
    {.name = "uncond-prob",
     .kind = OPTION_FLOAT,
     .value = &fit.step.uncond_prob,
     .argument = "P",
     .help = "probability of dropping an image's embedding, for guidance",
     .max = 1},
    {.name = "embed-noise",
     .kind = OPTION_FLOAT,
     .value = &fit.step.embed_noise,
     .argument = "X",
     .help = "noise added to embeddings, as a multiple of their length",
     .max = 1e3},
    {.name = "embed-neighbours",
     .kind = OPTION_INT,
     .value = &fit.embed_neighbours,
     .argument = "N",
     .help = "average each embedding with up to N of its nearest neighbors",
     .max = EMBED_NEIGHBOURS_CANDIDATES},
    {.name = "base-channels",
     .kind = OPTION_INT,
     .value = &options.base_channels,
     .argument = "N",
     .help = "base width of the U-Net",
     .min = 1,
     .max = 65536},
    {.name = "channel-multipliers",
     .kind = OPTION_STRING,
     .value = &options.multipliers,
     .argument = "LIST",
     .help = "widths at its four resolutions, as multiples of the base width"},
    {.name = "mapping-width",
     .kind = OPTION_INT,
     .value = &options.mapping_width,
     .argument = "N",
     .help = "width of the mapping network, which modulates all blocks",
     .min = 1,
     .max = 65536},
    {.name = "autoencoder-scale",
     .kind = OPTION_FLOAT,
     .value = &options.autoencoder_scale,
     .argument = "X",
     .help = "divide latents by X, 0 for the standard deviation measured by the store",
     .max = 1e6},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &fit.loop.options.step.seed,
     .argument = "S",
     .help = "seed of weights, data order, timesteps and noise"},
    {.name = "recompute",
     .kind = OPTION_FLAG,
     .value = &fit.loop.options.step.recompute,
     .help = "recompute block activations in the backward pass (gradient checkpointing)"},
    FIT_OPTIONS_END(fit.loop.options),
    {.name = "only",
     .kind = OPTION_STRING,
     .value = &options.only,
     .argument = "FILE",
     .help = "train only on the records whose paths FILE lists"},
    {.name = "except",
     .kind = OPTION_STRING,
     .value = &options.except,
     .argument = "FILE",
     .help = "leave out the records whose paths FILE lists"},
    {.name = "demo-prompts",
     .kind = OPTION_STRING,
     .value = &options.demo_prompts,
     .argument = "FILE",
     .help = "make demo grids with an image for each prompt, one per line of FILE"},
    {.name = "demo-every",
     .kind = OPTION_INT,
     .value = &fit.loop.options.demo_every,
     .argument = "N",
     .help = "steps between demo grids",
     .min = 1,
     .max = FIT_STEPS_MAX},
    {.name = "demo-grid",
     .kind = OPTION_INT,
     .value = &options.demo_grid,
     .argument = "N",
     .help = "images per row of a demo grid, 0 for about as many rows as columns",
     .max = 1e6},
    {.name = "score-images",
     .kind = OPTION_INT,
     .value = &options.score_images,
     .argument = "M",
     .help = "score checkpoints by M samples for held-out images, and keep the best; 0: do not",
     .max = 1e6},
    {.name = "score-every",
     .kind = OPTION_INT,
     .value = &fit.loop.options.score_every,
     .argument = "N",
     .help = "steps between scored checkpoints, 0 for all that --checkpoint-every makes",
     .max = FIT_STEPS_MAX},
    MODEL_OPTION(options.model, "autoencoder.* and cloob.* for demo grids and scores"),
    MODEL_OPTION_AUTOENCODER(options.model),
    MODEL_OPTION_CLOOB(options.model),
    {0},
};

static const struct program program = {
    .name = "ccld-fit",
    .summary = "Trains a latent diffusion model on the shard stores in the folders SHARDS.\n"
               "SIGINT, SIGTERM, SIGUSR1 and SIGHUP stop the run after writing a checkpoint.",
    .usage = "[OPTION]... SHARDS... -o RUN\n[OPTION]... --resume RUN|CKPT [SHARDS]... [-o RUN]",
    .options = option_table,
};

/* The U-Net's sizes but those that depend on the data. */
static struct unet_config parse_config(void)
{
    struct unet_config config = {.latent_channels = 1,
                                 .embed_width = 1,
                                 .base_channels = options.base_channels,
                                 .cond_width = options.mapping_width};
    struct error e;
    trainer_parse_multipliers(config.multipliers, 4, 4, "channel-multipliers", options.multipliers);
    if (unet_config_check(&config, &e) != 0)
        die_usage("invalid U-Net: %s", e.text);
    return config;
}

/* Reads a list of paths, if a file is given. Returns `list` or NULL. */
static const struct path_list *read_paths(struct path_list *list, const char *file)
{
    struct error e;
    if (!file)
        return NULL;
    if (path_list_read(list, file, &e) != 0)
        die("%s", e.text);
    note("'%s' lists %" PRId64 " path%s", file, list->count, plural(list->count));
    return list;
}

static struct latent_set *open_data(int operands, char **argv)
{
    const char **folders = NULL;
    int count = operands;
    if (operands > 0) {
        folders = xcalloc((size_t)operands, sizeof *folders);
        for (int i = 0; i < operands; i++)
            folders[i] = argv[i + 1];
    } else if (fit.loop.resumed) {
        count = run_paths_find(&trainer.saved, "shards", &folders);
    }
    if (count == 0)
        die_usage("no data given: name the folders of shard stores");
    struct latent_set *data;
    struct error e;
    struct path_list only = {0}, except = {0};
    struct latent_set_options o = {.holdout = fit.loop.options.holdout,
                                   .only = read_paths(&only, options.only),
                                   .except = read_paths(&except, options.except)};
    if (latent_set_open(&data, folders, count, &o, &e) != 0)
        die("cannot train: %s", e.text);
    path_list_release(&only);
    path_list_release(&except);
    run_paths_store(&trainer.state, "shards", count, folders);
    free(folders);
    return data;
}

/* What the file of --init-from says about how its network was trained. */
static struct {
    double autoencoder_scale;        /* 0: it does not say */
    double measured;                 /* of the latents; 0: the data do not record it */
    char autoencoder[128];           /* file name of the one that made its latents ... */
    char encoder[ENCODER_HASH_SIZE]; /* ... and its hash; "": it does not say */
} origin;

/* Finetuning keeps how latents are scaled and embeddings are noised, which the weights have adapted
 * to. */
static void read_init_from(void)
{
    const char *path = trainer.init_from;
    struct weights *w;
    struct named_weights names;
    struct error e;
    double scale;
    if (!path || fit.loop.resumed)
        return;
    if (weights_open(&w, path, &e) != 0)
        die("cannot read '%s': %s", path, e.text);
    if (names_resolve(&names, w, NET_UNET, PICK_EMA, &e) != 0)
        die("cannot use '%s': %s", path, e.text);
    if (names_scalar(&names, "autoencoder_scale", &scale) && scale > 0 && isfinite(scale))
        origin.autoencoder_scale = scale;
    const char *encoder = weights_metadata(w, "autoencoder_encoder");
    const char *name = weights_metadata(w, "autoencoder");
    snprintf(origin.encoder, sizeof origin.encoder, "%s", encoder ? encoder : "");
    snprintf(origin.autoencoder, sizeof origin.autoencoder, "%s", name ? name : "?");
    double noise = model_embed_noise(&(struct model_part){.weights = w});
    if (!option_given("embed-noise") && noise > 0) {
        fit.step.embed_noise = noise;
        inform("noise of %.9g in embeddings, as in training '%s'", noise, path);
    }
    names_release(&names);
    weights_close(w);
}

static double choose_scale(void)
{
    if (option_given("autoencoder-scale") && options.autoencoder_scale > 0)
        return options.autoencoder_scale;
    if (fit.loop.resumed && !option_given("autoencoder-scale")) {
        if (!(trainer.saved.autoencoder_scale > 0))
            die("cannot resume from '%s': state.json does not record \"autoencoder_scale\"",
                trainer.origin.checkpoint);
        return trainer.saved.autoencoder_scale;
    }
    struct latent_statistics statistics = latent_set_statistics(fit.data);
    double scale = latent_statistics_scale(&statistics);
    origin.measured = scale > 0 ? scale : 0;
    if (origin.autoencoder_scale > 0 && !option_given("autoencoder-scale"))
        return origin.autoencoder_scale;
    if (!(scale > 0))
        die("cannot train: the data do not record the scale of the latents: give "
            "--autoencoder-scale");
    return scale;
}

/* Weights know the latents of one autoencoder; another one's need another scale, too. */
static void check_autoencoder(void)
{
    const struct shard_model *data = &latent_set_info(fit.data)->autoencoder;
    if (!option_given("autoencoder-scale") && encoder_hashes_differ(origin.encoder, data->encoder))
        die("cannot finetune '%s': it was trained with the autoencoder '%s' (%.16s), the data were "
            "encoded with '%s' (%.16s): to finetune it all the same, give --autoencoder-scale 0",
            trainer.init_from, origin.autoencoder, origin.encoder, data->name, data->encoder);
}

static void set_data(void)
{
    struct run_data data = {.store = *latent_set_info(fit.data),
                            .order = latent_set_order(fit.data)};
    latent_set_hash(data.hash, fit.data);
    trainer_set_data(&trainer, &data);
    fit.step.autoencoder_scale = trainer.state.autoencoder_scale = choose_scale();
}

static struct score_options score_options(void)
{
    const struct shard_info *store = latent_set_info(fit.data);
    const struct step_options *step = &fit.loop.options.step;
    return (struct score_options){
        .model = options.model,
        .images = options.score_images,
        .batch = step->batch < 8 ? step->batch : 8,
        .seed = step->seed,
        .autoencoder_scale = trainer.state.autoencoder_scale,
        .embed_noise = fit.step.embed_noise,
        .height = store->image_height,
        .width = store->image_width,
    };
}

/* Asked for by name: scores of the wrong networks would look like scores. */
static void check_score_options(void)
{
    const char *named = getenv("CCLD_MODEL");
    const struct model_paths *m = &options.model;
    fit.loop.scores = options.score_images > 0;
    if (fit.loop.scores && !m->model && !(named && *named) && !(m->autoencoder && m->cloob))
        die_usage("--score-images needs -m for the autoencoder and CLOOB");
    if (fit.loop.scores && options.score_images <= NEIGHBOURS_DENSE)
        die_usage("--score-images needs at least %d images", NEIGHBOURS_DENSE + 1);
    option_requires("score-every", fit.loop.scores || !fit.loop.options.score_every,
                    "--score-images");
    option_requires("demo-every", options.demo_prompts, "--demo-prompts");
    option_requires("demo-grid", options.demo_prompts, "--demo-prompts");
    static const char *const paths[] = {"model", "autoencoder", "cloob"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        option_requires(paths[i], options.demo_prompts || fit.loop.scores,
                        "--demo-prompts or --score-images");
}

/* With the parameters on a dry device. */
static void plan_score(void)
{
    struct score_options o = score_options();
    struct error e;
    if (fit.loop.scores &&
        score_memory(&fit.score_bytes, &o, fit.loop.parameters, fit.data, &e) != 0)
        die("cannot score: %s", e.text);
    char bytes[32];
    if (fit.loop.scores)
        note("memory for scoring: %s", format_bytes(bytes, (double)fit.score_bytes));
}

static void open_score(void)
{
    struct score_options o = score_options();
    struct error e;
    if (!fit.loop.scores || fit.loop.collective->rank > 0) /* the first rank scores */
        return;
    if (score_open(&fit.score, &o, fit.loop.parameters, fit.data, &e) != 0)
        die("cannot score: %s", e.text);
}

static void make_network(struct unet_config config)
{
    const struct shard_info *store = latent_set_info(fit.data);
    struct architecture architecture = {0};
    struct error e;
    config.latent_channels = store->latent_channels;
    config.embed_width = store->embed_size;
    unet_architecture(&architecture, &config);
    trainer_plan_parameters(&trainer, &architecture, NULL);
    if (fit_unet_check(fit.loop.parameters, store, &e) != 0)
        die("cannot train on these data: %s", e.text);
    plan_score();
    trainer_make_parameters(&trainer);
    parameters_set_scalar(fit.loop.parameters, "autoencoder_scale",
                          (float)trainer.state.autoencoder_scale);
}

#define SCALE_FAR 1.25 /* other images change the scale by less, another autoencoder by more */

static void announce_scale(void)
{
    double scale = trainer.state.autoencoder_scale, measured = origin.measured;
    bool kept = origin.autoencoder_scale > 0 && !option_given("autoencoder-scale");
    if (!kept)
        inform("autoencoder scale %.9g", scale);
    else
        inform("autoencoder scale %.9g, from '%s'", scale, trainer.init_from);
    if (kept && measured > 0 && (measured > SCALE_FAR * scale || scale > SCALE_FAR * measured))
        warn("the scale of the data is %.9g: if another autoencoder has encoded them, give "
             "--autoencoder-scale 0",
             measured);
}

static void open_demo(void)
{
    const struct shard_info *store = latent_set_info(fit.data);
    const struct step_options *step = &fit.loop.options.step;
    struct demo_options o = {
        .model = options.model,
        .prompts = options.demo_prompts,
        .columns = options.demo_grid,
        .batch = step->batch < 8 ? step->batch : 8,
        .seed = step->seed,
        .autoencoder_scale = trainer.state.autoencoder_scale,
        .embed_noise = fit.step.embed_noise,
        .height = store->image_height,
        .width = store->image_width,
    };
    struct error e;
    fit.loop.demos = options.demo_prompts != NULL;
    if (!fit.loop.demos || fit.loop.collective->rank > 0) /* the first rank makes them */
        return;
    if (demo_open(&fit.demo, &o, fit.loop.parameters, store, &e) != 0)
        die("cannot make demo grids: %s", e.text);
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    trainer_begin(&trainer, &fit.loop);
    check_score_options();
    struct unet_config config = parse_config();
    read_init_from();
    fit.data = open_data(operands, argv);
    check_autoencoder();
    set_data();
    make_network(config);
    trainer_run_folder(&trainer);
    trainer_announce(&trainer);
    if (!latent_set_finished(fit.data))
        warn("encoding into a shard store is not finished: images added from now on are not "
             "trained on");
    announce_scale();
    open_demo();
    open_score();
    trainer_run(&trainer);
    demo_close(fit.demo);
    score_close(fit.score);
    trainer_end(&trainer);
    latent_set_close(fit.data);
    return 0;
}
