/* Trains a U-Net on shard stores. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/chosen_device.h"
#include "common/fit.h"
#include "common/fit_memory.h"
#include "common/fit_start.h"
#include "common/saved_options.h"

static struct {
    const char *run, *resume, *init_from, *multipliers, *betas, *demo_prompts;
    struct model_paths model;
    int64_t batch_size, accumulate, steps, epochs, warmup, base_channels, ema_decay_at;
    int64_t checkpoint_every, keep, holdout, holdout_every, log_every, max_bad_steps;
    int64_t demo_every, demo_grid;
    double lr, weight_decay, clip_grad, uncond_prob, autoencoder_scale;
    int lr_schedule;
    uint64_t seed;
    bool recompute;
} options = {
    .multipliers = "4,4,8,8",
    .betas = "0.9,0.999",
    .batch_size = 64,
    .accumulate = 1,
    .base_channels = 128,
    .ema_decay_at = EMA_DECAY_AT_DEFAULT,
    .checkpoint_every = 5000,
    .holdout_every = 1000,
    .log_every = 50,
    .max_bad_steps = 10,
    .demo_every = 2000,
    .lr = 3e-5,
    .weight_decay = 0.01,
    .uncond_prob = 0.2,
};

#define STEPS_MAX 67108863 /* what the random streams count to */

static const struct option option_table[] = {
    {"output", 'o', OPTION_STRING, &options.run, "RUN", "folder of the run, to be made", 0, 0,
     NULL},
    {"resume", 0, OPTION_STRING, &options.resume, "RUN|CKPT",
     "go on from a run's last checkpoint or from this one, with its options", 0, 0, NULL},
    {"init-from", 0, OPTION_STRING, &options.init_from, "FILE",
     "finetune: begin with these weights and this architecture", 0, 0, NULL},
    {"steps", 0, OPTION_INT, &options.steps, "N", "end after step N of the run, 0 for never", 0,
     STEPS_MAX, NULL},
    {"epochs", 0, OPTION_INT, &options.epochs, "N", "end after epoch N of the run, 0 for never", 0,
     1e9, NULL},
    {"batch-size", 'b', OPTION_INT, &options.batch_size, "N",
     "images of a step on a device at a time", 1, 65536, NULL},
    {"accumulate", 0, OPTION_INT, &options.accumulate, "K",
     "batches of a step, one after the other", 1, 65536, NULL},
    {"lr", 0, OPTION_FLOAT, &options.lr, "X", "learning rate, whatever the batch", 0, 1e3, NULL},
    {"lr-schedule", 0, OPTION_CHOICE, &options.lr_schedule, "NAME", "how the rate falls", 0, 0,
     learning_rate_schedules},
    {"warmup", 0, OPTION_INT, &options.warmup, "N", "steps in which the rate rises to its value", 0,
     STEPS_MAX, NULL},
    {"weight-decay", 0, OPTION_FLOAT, &options.weight_decay, "X", "of AdamW", 0, 1e3, NULL},
    {"betas", 0, OPTION_STRING, &options.betas, "B1,B2", "of AdamW", 0, 0, NULL},
    {"clip-grad", 0, OPTION_FLOAT, &options.clip_grad, "X",
     "largest norm of the gradient, 0 for any", 0, 1e12, NULL},
    {"ema-decay-at", 0, OPTION_INT, &options.ema_decay_at, "N",
     "step from which on weights are averaged over 10000 steps", 0, 1e12, NULL},
    {"uncond-prob", 0, OPTION_FLOAT, &options.uncond_prob, "P",
     "how often an image is shown without its embed", 0, 1, NULL},
    {"base-channels", 0, OPTION_INT, &options.base_channels, "N", "width of the U-Net", 1, 65536,
     NULL},
    {"channel-multipliers", 0, OPTION_STRING, &options.multipliers, "LIST",
     "its widths at the four resolutions, in base channels", 0, 0, NULL},
    {"autoencoder-scale", 0, OPTION_FLOAT, &options.autoencoder_scale, "X",
     "latents are divided by it, 0 for what the store has measured", 0, 1e6, NULL},
    {"seed", 0, OPTION_SEED, &options.seed, "S", "of weights, order, times and noise", 0, 0, NULL},
    {"recompute", 0, OPTION_FLAG, &options.recompute, NULL,
     "compute blocks twice to keep less of them in memory", 0, 0, NULL},
    {"checkpoint-every", 0, OPTION_INT, &options.checkpoint_every, "N",
     "steps between checkpoints, 0 for one at the end", 0, STEPS_MAX, NULL},
    {"keep", 0, OPTION_INT, &options.keep, "N", "keep the N last checkpoints, 0 for all", 0, 1e9,
     NULL},
    {"log-every", 0, OPTION_INT, &options.log_every, "N", "steps between lines of metrics", 1,
     STEPS_MAX, NULL},
    {"holdout", 0, OPTION_INT, &options.holdout, "N",
     "images that are not trained on but judged with", 0, 1e9, NULL},
    {"holdout-every", 0, OPTION_INT, &options.holdout_every, "N",
     "steps between held-out losses, 0 for one at the end", 0, STEPS_MAX, NULL},
    {"max-bad-steps", 0, OPTION_INT, &options.max_bad_steps, "N",
     "give up after so many steps in a row that are not finite", 1, STEPS_MAX, NULL},
    {"demo-prompts", 0, OPTION_STRING, &options.demo_prompts, "FILE",
     "make demo grids of these prompts, a line each", 0, 0, NULL},
    {"demo-every", 0, OPTION_INT, &options.demo_every, "N", "steps between demo grids", 1,
     STEPS_MAX, NULL},
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

/* What a checkpoint does not keep. */
static const char *const not_saved[] = {"output", "resume", NULL};
static const char *const not_saved_with_init_from[] = {"output", "resume", "base-channels",
                                                       "channel-multipliers", NULL};

static volatile sig_atomic_t stop;
static atomic_flag signalled = ATOMIC_FLAG_INIT;

/* The first signal asks for a checkpoint, the second does not wait for it. */
static void on_signal(int number)
{
    if (atomic_flag_test_and_set(&signalled))
        _exit(128 + number);
    stop = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

static void parse_numbers(double *numbers, int count, const char *option, const char *text)
{
    const char *at = text;
    for (int i = 0; i < count; i++) {
        char *end;
        numbers[i] = strtod(at, &end);
        if (end == at || !isfinite(numbers[i]) || *end != (i + 1 < count ? ',' : '\0'))
            die_usage("option '--%s': '%s' is not %d numbers with commas between them", option,
                      text, count);
        at = end + 1;
    }
}

/* Of the U-Net; what the data decide is filled in later. */
static struct net_sizes parse_sizes(void)
{
    struct net_sizes sizes = {
        .latent = 1, .embed = 1, .unet_base = options.base_channels, .unet_cond = UNET_COND_WIDTH};
    double multipliers[4];
    struct error e;
    parse_numbers(multipliers, 4, "channel-multipliers", options.multipliers);
    for (int i = 0; i < 4; i++) {
        if (!(multipliers[i] >= 1 && multipliers[i] <= 1024) ||
            multipliers[i] != floor(multipliers[i]))
            die_usage("option '--channel-multipliers': '%s' are not whole numbers from 1 to 1024",
                      options.multipliers);
        sizes.unet_multipliers[i] = (int64_t)multipliers[i];
    }
    if (net_sizes_check_unet(&sizes, &e) != 0)
        die_usage("no such U-Net: %s", e.text);
    return sizes;
}

static struct fit_options parse_fit(void)
{
    double betas[2];
    parse_numbers(betas, 2, "betas", options.betas);
    if (!(betas[0] >= 0 && betas[0] < 1 && betas[1] >= 0 && betas[1] < 1))
        die_usage("option '--betas': '%s' are not from 0 to below 1", options.betas);
    if (options.lr_schedule == LEARNING_RATE_COSINE && !options.steps && !options.epochs)
        die_usage("--lr-schedule cosine needs an end: give --steps or --epochs");
    struct adamw_options adamw = ADAMW_DEFAULTS;
    adamw.beta1 = betas[0];
    adamw.beta2 = betas[1];
    adamw.weight_decay = options.weight_decay;
    return (struct fit_options){
        .step = {.seed = options.seed,
                 .batch = options.batch_size,
                 .accumulate = options.accumulate,
                 .uncond_prob = options.uncond_prob,
                 .recompute = options.recompute,
                 .clip_grad = options.clip_grad,
                 .adamw = adamw},
        .rate = {.schedule = (enum learning_rate_schedule)options.lr_schedule,
                 .base = options.lr,
                 .warmup = options.warmup,
                 .steps = options.steps},
        .ema_decay_at = options.ema_decay_at,
        .steps = options.steps,
        .epochs = options.epochs,
        .checkpoint_every = options.checkpoint_every,
        .keep = options.keep,
        .log_every = options.log_every,
        .holdout_every = options.holdout_every,
        .demo_every = options.demo_every,
        .max_bad_steps = options.max_bad_steps,
    };
}

/* Where a run that goes on comes from. */
struct origin {
    struct fit_origin at;
    struct training_state saved;
    char *changes; /* what the command line changed; NULL: nothing */
};

static void check_same_architecture(const struct origin *o, const char *name)
{
    const char *saved = training_state_option(&o->saved, name);
    char *now = option_text(option_find(&program, name));
    if (now && option_given(name) && (!saved || strcmp(saved, now) != 0))
        die_usage("--%s %s does not go with --resume: the checkpoint has its architecture", name,
                  now);
    free(now);
}

static void read_origin(struct origin *o)
{
    struct error e;
    if (options.init_from)
        die_usage("--resume and --init-from do not go together: going on is no finetuning");
    if (checkpoint_find(options.resume, &o->at.checkpoint, &o->at.run, &e) != 0)
        die("cannot go on from '%s': %s", options.resume, e.text);
    if (checkpoint_read_state(&o->saved, o->at.checkpoint, &e) != 0)
        die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
    check_same_architecture(o, "base-channels");
    check_same_architecture(o, "channel-multipliers");
    bool steps = option_given("steps"), epochs = option_given("epochs");
    o->changes = saved_options_restore(&o->saved, &program, not_saved);
    /* A new end takes the place of the old one, of whichever kind. */
    options.steps = epochs && !steps ? 0 : options.steps;
    options.epochs = steps && !epochs ? 0 : options.epochs;
}

static struct dataset *open_data(int operands, char **argv, const struct origin *o,
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
    struct dataset *d;
    struct error e;
    if (dataset_open(&d, folders, count, options.holdout, &e) != 0)
        die("cannot train: %s", e.text);
    saved_paths_store(state, "shards", count, folders);
    free(folders);
    if (dataset_steps_per_epoch(d, options.batch_size * options.accumulate) == 0)
        die("cannot train: %" PRId64 " images to train on do not fill an effective batch of "
            "%" PRId64,
            dataset_training_count(d), options.batch_size * options.accumulate);
    return d;
}

static struct bank *make_bank(const struct origin *o, const struct shard_info *store,
                              struct device *device)
{
    struct error e;
    struct bank *b;
    if (o->at.checkpoint) {
        if (checkpoint_load_bank(&b, &o->saved, o->at.checkpoint, device, &e) != 0)
            die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
        return b;
    }
    if (options.init_from) {
        if (fit_read_weights(&b, options.init_from, device, &e) != 0)
            die("%s", e.text);
        return b;
    }
    struct net_sizes sizes = parse_sizes();
    sizes.latent = store->latent_channels;
    sizes.embed = store->embed_size;
    struct net_plan plan = {0};
    plan_unet(&plan, &sizes);
    b = bank_new(&plan, NET_UNET, options.seed, device);
    plan_release(&plan);
    return b;
}

static double choose_scale(const struct origin *o, const struct dataset *d)
{
    if (option_given("autoencoder-scale") && options.autoencoder_scale > 0)
        return options.autoencoder_scale;
    if (o->at.checkpoint && !option_given("autoencoder-scale"))
        return o->saved.autoencoder_scale;
    struct latent_statistics statistics = dataset_statistics(d);
    double scale = latent_statistics_scale(&statistics);
    if (!(scale > 0))
        die("cannot train: the data do not say the latents' scale: give --autoencoder-scale");
    return scale;
}

static void fill_state(struct training_state *s, const struct origin *o, const struct dataset *d)
{
    s->seed = options.seed;
    s->store = *dataset_info(d);
    dataset_hash(s->dataset_hash, d);
    s->dataset_count = dataset_count(d);
    s->holdout_count = dataset_holdout_count(d);
    s->autoencoder_scale = choose_scale(o, d);
    saved_options_store(s, &program, options.init_from ? not_saved_with_init_from : not_saved);
}

static struct demo *open_demo(const struct bank *b, const struct dataset *d, double scale)
{
    if (!options.demo_prompts)
        return NULL;
    const struct shard_info *store = dataset_info(d);
    struct demo_options o = {
        .model = options.model,
        .prompts = options.demo_prompts,
        .columns = options.demo_grid,
        .batch = options.batch_size < 8 ? options.batch_size : 8,
        .seed = options.seed,
        .autoencoder_scale = scale,
        .height = store->image_height,
        .width = store->image_width,
    };
    struct demo *demo;
    struct error e;
    if (demo_open(&demo, &o, b, store, &e) != 0)
        die("cannot make demos: %s", e.text);
    return demo;
}

static void announce(const struct fit *f, const struct origin *o)
{
    int64_t memory = fit_memory(f);
    struct error e;
    if (fit_check_memory(f, memory, &e) != 0)
        die("too little memory to train: %s", e.text);
    fit_announce(f, memory);
    if (o->at.checkpoint)
        inform("going on from '%s'%s%s", o->at.checkpoint, o->changes ? " with " : "",
               o->changes ? o->changes : "");
    if (!dataset_finished(f->data))
        warn("the store is not finished: what is encoded from now on is not trained on");
    inform("autoencoder scale %.9g", f->state->autoencoder_scale);
}

static void report(const struct fit *f, enum fit_end end, int64_t first_step, double seconds)
{
    const struct training_state *s = f->state;
    const char *folder = run_folder(f->run);
    char duration[32], holdout[48] = "";
    int64_t steps = s->step - first_step;
    double images =
        (double)(steps * f->options.step.batch * f->options.step.accumulate * f->collective->size);
    if (isfinite(s->holdout_loss))
        snprintf(holdout, sizeof holdout, ", held-out loss %.5f", s->holdout_loss);
    if (end == FIT_STOPPED)
        inform("SIG%s: stopped after step %" PRId64 "; go on with --resume %s", sigabbrev_np(stop),
               s->step, folder);
    else if (steps == 0)
        inform("nothing to do: step %" PRId64 " is the end of run '%s'", s->step, folder);
    else
        inform("%" PRId64 " steps in %s (%.1f images/s), loss %.5f%s; '%s' stands at step %" PRId64,
               steps, format_duration(duration, seconds), images / seconds, s->smoothed_loss,
               holdout, folder, s->step);
}

static void train(const struct fit *f)
{
    struct error e;
    enum fit_end end;
    int64_t first_step = f->state->step;
    double begin = seconds_now();
    catch_signals();
    if (fit_run(f, &end, &e) != 0)
        die("cannot go on training: %s", e.text);
    if (end == FIT_BAD) {
        struct error none;
        char *last = NULL;
        int found = checkpoint_find(run_folder(f->run), &last, NULL, &none);
        die("training has come to nothing: %s; %s%s%s", e.text,
            found == 0 ? "the last checkpoint is '" : "there is no checkpoint",
            found == 0 ? last : "", found == 0 ? "'" : "");
    }
    report(f, end, first_step, seconds_now() - begin);
}

static const char *run_folder_wanted(const struct origin *o)
{
    const char *folder = options.run ? options.run : o->at.run;
    if (!folder)
        die_usage("no run: name a folder with -o");
    if (options.init_from && (option_given("base-channels") || option_given("channel-multipliers")))
        die_usage("--init-from brings its architecture: no --base-channels and no "
                  "--channel-multipliers with it");
    return folder;
}

static void prepare_state(struct training_state *s, const struct origin *o)
{
    training_state_init(s);
    if (!o->at.checkpoint)
        return;
    *s = o->saved;
    s->options = NULL; /* those of the command line come */
    s->option_count = 0;
}

static void prepare_data(struct fit *f, const struct origin *o, int operands, char **argv)
{
    struct error e;
    int64_t effective = options.batch_size * options.accumulate * f->collective->size;
    f->data = open_data(operands, argv, o, f->state);
    if (o->at.checkpoint && fit_check_data(f->state, &o->saved, f->data, effective, &e) != 0)
        die("cannot go on from '%s' with these data: %s", o->at.checkpoint, e.text);
    fill_state(f->state, o, f->data);
    f->options.step.autoencoder_scale = f->state->autoencoder_scale;
    if (f->options.rate.steps == 0)
        f->options.rate.steps = options.epochs * dataset_steps_per_epoch(f->data, effective);
}

static struct device *prepare_network(struct fit *f, const struct origin *o)
{
    struct error e;
    struct device *device = chosen_device();
    device->advice = "a smaller --batch-size with more --accumulate, or --recompute";
    f->bank = make_bank(o, dataset_info(f->data), device);
    if (fit_check_network(f->bank, dataset_info(f->data), &e) != 0)
        die("cannot train on these data: %s", e.text);
    bank_set_scalar(f->bank, "autoencoder_scale", (float)f->state->autoencoder_scale);
    return device;
}

int main(int argc, char **argv)
{
    int operands = options_parse(&program, argc, argv);
    struct origin origin = {0};
    struct training_state state;
    struct error e;
    if (options.resume)
        read_origin(&origin);
    const char *folder = run_folder_wanted(&origin);
    parse_sizes();
    prepare_state(&state, &origin);
    struct fit fit = {
        .options = parse_fit(), .collective = collective_alone(), .state = &state, .stop = &stop};
    fit.options.resumed = origin.at.checkpoint != NULL;
    prepare_data(&fit, &origin, operands, argv);
    struct device *device = prepare_network(&fit, &origin);
    if (fit_open_run(&fit.run, &fit.options.saved, folder, &origin.at, checkpoint_bytes(fit.bank),
                     &e) != 0)
        die("cannot train in '%s': %s", folder, e.text);
    announce(&fit, &origin);
    fit.demo = open_demo(fit.bank, fit.data, state.autoencoder_scale);
    train(&fit);

    demo_close(fit.demo);
    run_close(fit.run);
    bank_free(fit.bank);
    device_close(device);
    dataset_close(fit.data);
    collective_close(fit.collective);
    training_state_release(&state);
    if (origin.at.checkpoint)
        training_state_release(&origin.saved);
    free(origin.at.checkpoint);
    free(origin.at.run);
    free(origin.changes);
    return 0;
}
