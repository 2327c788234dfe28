/* Trains a U-Net on shard stores. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/data/embed_neighbours.h"
#include "common/fit/memory.h"
#include "common/fit/program.h"
#include "common/fit/unet.h"
#include "common/program/device.h"
#include "common/run/options.h"

static struct {
    struct fit_tool_options run;
    const char *multipliers, *demo_prompts;
    struct model_paths model;
    int64_t embed_neighbours, base_channels, mapping_width, demo_every, demo_grid;
    double uncond_prob, embed_noise, autoencoder_scale;
    bool recompute;
} options = {
    .run = {FIT_TOOL_DEFAULTS, .betas = "0.9,0.999", .batch_size = 64, .lr = 3e-5,
            .weight_decay = 0.01},
    .multipliers = "4,4,8,8",
    .base_channels = 128,
    .mapping_width = UNET_COND_WIDTH,
    .demo_every = 2000,
    .uncond_prob = 0.2,
};

static const struct option option_table[] = {
    FIT_TOOL_OPTIONS_BEGIN(options.run),
    {"uncond-prob", 0, OPTION_FLOAT, &options.uncond_prob, "P",
     "how often an image is shown without its embed", 0, 1, NULL},
    {"embed-noise", 0, OPTION_FLOAT, &options.embed_noise, "X",
     "noise added to embeds, times their length", 0, 1e3, NULL},
    {"embed-neighbours", 0, OPTION_INT, &options.embed_neighbours, "N",
     "show means of embeds and of up to so many like them", 0, EMBED_NEIGHBOURS_CANDIDATES, NULL},
    {"base-channels", 0, OPTION_INT, &options.base_channels, "N", "width of the U-Net", 1, 65536,
     NULL},
    {"channel-multipliers", 0, OPTION_STRING, &options.multipliers, "LIST",
     "its widths at the four resolutions, in base channels", 0, 0, NULL},
    {"mapping-width", 0, OPTION_INT, &options.mapping_width, "N",
     "width of what its blocks are conditioned on", 1, 65536, NULL},
    {"autoencoder-scale", 0, OPTION_FLOAT, &options.autoencoder_scale, "X",
     "latents are divided by it, 0 for what the store has measured", 0, 1e6, NULL},
    {"seed", 0, OPTION_SEED, &options.run.seed, "S", "of weights, order, times and noise", 0, 0,
     NULL},
    {"recompute", 0, OPTION_FLAG, &options.recompute, NULL,
     "compute blocks twice to keep less of them in memory", 0, 0, NULL},
    FIT_TOOL_OPTIONS_END(options.run),
    {"demo-prompts", 0, OPTION_STRING, &options.demo_prompts, "FILE",
     "make demo grids of these prompts, a line each", 0, 0, NULL},
    {"demo-every", 0, OPTION_INT, &options.demo_every, "N", "steps between demo grids", 1,
     FIT_TOOL_STEPS_MAX, NULL},
    {"demo-grid", 0, OPTION_INT, &options.demo_grid, "N",
     "pictures in a row, 0 for a grid about as high as wide", 0, 1e6, NULL},
    {"model", 'm', OPTION_STRING, &options.model.model, "DIR",
     "folder with autoencoder.* and cloob.*, for demos (else $CCLD_MODEL)", 0, 0, NULL},
    {"autoencoder", 0, OPTION_STRING, &options.model.autoencoder, "FILE",
     "the autoencoder, in place of the folder's", 0, 0, NULL},
    {"cloob", 0, OPTION_STRING, &options.model.cloob, "FILE",
     "the CLOOB model, in place of the folder's", 0, 0, NULL},
    {0},
};

static const struct program program = {
    .name = "ccld-fit",
    .summary = "Trains a diffusion model on the shard stores in the folders SHARDS.\n"
               "SIGTERM, SIGINT and SIGUSR1 make it write a checkpoint and end.",
    .usage = "[OPTION]... SHARDS... -o RUN\n[OPTION]... --resume RUN|CKPT [SHARDS]... [-o RUN]",
    .options = option_table,
};

/* What --init-from and --resume bring. */
static const char *const architecture_options[] = {"base-channels", "channel-multipliers",
                                                   "mapping-width", NULL};
/* What a checkpoint does not keep. */
static const char *const not_saved[] = {"output", "resume", NULL};
static const char *const not_saved_with_init_from[] = {
    "output", "resume", "base-channels", "channel-multipliers", "mapping-width", NULL};

/* Of the U-Net; what the data decide is filled in later. */
static struct net_sizes parse_sizes(void)
{
    struct net_sizes sizes = {.latent = 1,
                              .embed = 1,
                              .unet_base = options.base_channels,
                              .unet_cond = options.mapping_width};
    struct error e;
    fit_tool_parse_multipliers(sizes.unet_multipliers, 4, 4, "channel-multipliers",
                               options.multipliers);
    if (net_sizes_check_unet(&sizes, &e) != 0)
        die_usage("no such U-Net: %s", e.text);
    return sizes;
}

static struct fit_options parse_fit(void)
{
    struct adamw_options adamw;
    struct fit_loop_options loop = fit_tool_loop_options(&options.run, &adamw);
    return (struct fit_options){
        .step = {.seed = options.run.seed,
                 .batch = loop.batch,
                 .accumulate = loop.accumulate,
                 .uncond_prob = options.uncond_prob,
                 .embed_noise = options.embed_noise,
                 .recompute = options.recompute,
                 .clip_grad = options.run.clip_grad,
                 .adamw = adamw},
        .embed_neighbours = options.embed_neighbours,
        .rate = loop.rate,
        .ema_decay_at = loop.ema_decay_at,
        .steps = loop.steps,
        .epochs = loop.epochs,
        .checkpoint_every = loop.checkpoint_every,
        .keep = loop.keep,
        .log_every = loop.log_every,
        .holdout_every = loop.holdout_every,
        .demo_every = options.demo_every,
        .max_bad_steps = loop.max_bad_steps,
    };
}

static struct latent_set *open_data(int operands, char **argv, const struct fit_tool_origin *o,
                                    struct training_state *state)
{
    const char **folders = NULL;
    int count = operands;
    if (operands > 0) {
        folders = xcalloc((size_t)operands, sizeof *folders);
        for (int i = 0; i < operands; i++)
            folders[i] = argv[i + 1];
    } else if (o->at.checkpoint) {
        count = saved_paths_find(&o->saved, "shards", &folders);
    }
    if (count == 0)
        die_usage("no data: name folders of shards");
    struct latent_set *d;
    struct error e;
    if (latent_set_open(&d, folders, count, options.run.holdout, &e) != 0)
        die("cannot train: %s", e.text);
    saved_paths_store(state, "shards", count, folders);
    free(folders);
    if (latent_set_steps_per_epoch(d, options.run.batch_size * options.run.accumulate) == 0)
        die("cannot train: %" PRId64 " images to train on do not fill an effective batch of "
            "%" PRId64,
            latent_set_training_count(d), options.run.batch_size * options.run.accumulate);
    return d;
}

static struct parameters *make_parameters(const struct fit_tool_origin *o,
                                          const struct shard_info *store, struct device *device)
{
    struct error e;
    struct parameters *p;
    if (o->at.checkpoint) {
        if (checkpoint_load_parameters(&p, &o->saved, o->at.checkpoint, device, &e) != 0)
            die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
        return p;
    }
    if (options.run.init_from) {
        if (fit_read_weights(&p, options.run.init_from, NET_UNET, NULL, device, &e) != 0)
            die("%s", e.text);
        return p;
    }
    struct net_sizes sizes = parse_sizes();
    sizes.latent = store->latent_channels;
    sizes.embed = store->embed_size;
    struct architecture architecture = {0};
    unet_architecture(&architecture, &sizes);
    p = parameters_new(&architecture, NET_UNET, options.run.seed, device);
    architecture_release(&architecture);
    return p;
}

static double choose_scale(const struct fit_tool_origin *o, const struct latent_set *d)
{
    if (option_given("autoencoder-scale") && options.autoencoder_scale > 0)
        return options.autoencoder_scale;
    if (o->at.checkpoint && !option_given("autoencoder-scale"))
        return o->saved.autoencoder_scale;
    struct latent_statistics statistics = latent_set_statistics(d);
    double scale = latent_statistics_scale(&statistics);
    if (!(scale > 0))
        die("cannot train: the data do not say the latents' scale: give --autoencoder-scale");
    return scale;
}

static struct fit_data data_of(const struct latent_set *d)
{
    struct fit_data data = {.store = *latent_set_info(d), .order = latent_set_order(d)};
    latent_set_hash(data.hash, d);
    return data;
}

static void fill_state(struct training_state *s, const struct fit_tool_origin *o,
                       const struct latent_set *d)
{
    struct fit_data data = data_of(d);
    fit_fill_state(s, &data);
    s->seed = options.run.seed;
    s->autoencoder_scale = choose_scale(o, d);
    saved_options_store(s, &program, options.run.init_from ? not_saved_with_init_from : not_saved);
}

static struct demo *open_demo(const struct parameters *p, const struct latent_set *d, double scale)
{
    if (!options.demo_prompts)
        return NULL;
    const struct shard_info *store = latent_set_info(d);
    struct demo_options o = {
        .model = options.model,
        .prompts = options.demo_prompts,
        .columns = options.demo_grid,
        .batch = options.run.batch_size < 8 ? options.run.batch_size : 8,
        .seed = options.run.seed,
        .autoencoder_scale = scale,
        .embed_noise = options.embed_noise,
        .height = store->image_height,
        .width = store->image_width,
    };
    struct demo *demo;
    struct error e;
    if (demo_open(&demo, &o, p, store, &e) != 0)
        die("cannot make demos: %s", e.text);
    return demo;
}

static void announce(const struct fit *f, const struct fit_tool_origin *o)
{
    int64_t memory = fit_memory(f);
    struct error e;
    if (fit_check_memory(f, memory, &e) != 0)
        die("too little memory to train: %s", e.text);
    fit_announce(f, memory);
    fit_tool_announce_origin(o);
    if (!latent_set_finished(f->data))
        warn("the store is not finished: what is encoded from now on is not trained on");
    inform("autoencoder scale %.9g", f->state->autoencoder_scale);
}

static int run_fit(const void *context, enum fit_end *end, struct error *e)
{
    return fit_run(context, end, e);
}

static void prepare_data(struct fit *f, const struct fit_tool_origin *o, int operands, char **argv)
{
    struct error e;
    int64_t effective = options.run.batch_size * options.run.accumulate * f->collective->size;
    f->data = open_data(operands, argv, o, f->state);
    struct fit_data data = data_of(f->data);
    if (o->at.checkpoint && fit_check_data(f->state, &o->saved, &data, effective, &e) != 0)
        die("cannot go on from '%s' with these data: %s", o->at.checkpoint, e.text);
    fill_state(f->state, o, f->data);
    f->options.step.autoencoder_scale = f->state->autoencoder_scale;
    if (f->options.rate.steps == 0)
        f->options.rate.steps = options.run.epochs * latent_set_steps_per_epoch(f->data, effective);
}

static struct device *prepare_network(struct fit *f, const struct fit_tool_origin *o)
{
    struct error e;
    struct device *device = program_open_device();
    device->advice = "a smaller --batch-size with more --accumulate, or --recompute";
    f->parameters = make_parameters(o, latent_set_info(f->data), device);
    if (fit_check_network(f->parameters, latent_set_info(f->data), &e) != 0)
        die("cannot train on these data: %s", e.text);
    parameters_set_scalar(f->parameters, "autoencoder_scale", (float)f->state->autoencoder_scale);
    return device;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    struct fit_tool_origin origin = {0};
    struct training_state state;
    struct error e;
    fit_tool_read_origin(&origin, &options.run, &program, architecture_options, not_saved);
    const char *folder = fit_tool_run_folder(&options.run, &origin, architecture_options);
    parse_sizes();
    fit_tool_prepare_state(&state, &origin);
    struct fit fit = {.options = parse_fit(),
                      .collective = collective_alone(),
                      .state = &state,
                      .stop = &fit_tool_stop};
    fit.options.resumed = origin.at.checkpoint != NULL;
    prepare_data(&fit, &origin, operands, argv);
    struct device *device = prepare_network(&fit, &origin);
    if (fit_open_run(&fit.run, &fit.options.saved, folder, &origin.at,
                     checkpoint_bytes(fit.parameters), &e) != 0)
        die("cannot train in '%s': %s", folder, e.text);
    announce(&fit, &origin);
    fit.demo = open_demo(fit.parameters, fit.data, state.autoencoder_scale);
    int64_t effective = options.run.batch_size * options.run.accumulate * fit.collective->size;
    fit_tool_train(&state, fit.run, effective, run_fit, &fit);

    demo_close(fit.demo);
    run_close(fit.run);
    parameters_free(fit.parameters);
    device_close(device);
    latent_set_close(fit.data);
    collective_close(fit.collective);
    training_state_release(&state);
    fit_tool_release_origin(&origin);
    return 0;
}
