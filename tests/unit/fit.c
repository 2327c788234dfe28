/* The training loop: where it ends, and how it handles signals, bad steps and a full disk. */
#include "common/fit/unet.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

#define RECORDS 40
#define HOLDOUT 6

static struct device *device;
static volatile sig_atomic_t stop;

struct session {
    struct fit_unet fit;
    struct training_state state;
};

static struct fit_options options(int64_t steps)
{
    return (struct fit_options){
        .step = {.seed = 5, .batch = 4, .accumulate = 2, .adamw = ADAMW_DEFAULTS},
        .rate = {.base = 1e-4},
        .ema_decay_at = EMA_DECAY_AT_DEFAULT,
        .steps = steps,
        .log_every = 1,
        .max_bad_steps = 3,
    };
}

/* Starts a run of a small U-Net in test_folder()/name. */
static void begin(struct session *s, const char *name, struct fit_options o)
{
    struct error e;
    struct unet_config sizes = {.latent_channels = SHARDS_Z,
                                .embed_width = SHARDS_EMBED,
                                .base_channels = 16,
                                .multipliers = {4, 4, 4, 4},
                                .cond_width = 32};
    struct architecture architecture = {0};
    unet_architecture(&architecture, &sizes);
    *s = (struct session){.fit = {.loop = {.options = o,
                                           .functions = &fit_unet_functions,
                                           .collective = collective_alone(),
                                           .stop = &stop},
                                  .step = {.uncond_prob = 0.2, .autoencoder_scale = 1}}};
    s->fit.loop.state = &s->state;
    s->fit.loop.parameters = parameters_new(&architecture, NET_UNET, 1, device);
    architecture_release(&architecture);
    char *store = xstrdup(shards_folder("store")), *folder = path_join(test_folder(), name);
    if (latent_set_open(&s->fit.data, &(const char *){store}, 1,
                        &(struct latent_set_options){.holdout = HOLDOUT}, &e) != 0 ||
        run_open(&s->fit.loop.run, folder, &e) != 0)
        die("%s", e.text);
    s->fit.loop.order = latent_set_order(s->fit.data);
    training_state_init(&s->state);
    s->state.store = *latent_set_info(s->fit.data);
    s->state.dataset_count = s->fit.loop.order->records;
    s->state.holdout_count = s->fit.loop.order->holdout;
    s->state.autoencoder_scale = 1;
    strcpy(s->state.precision, "fp32");
    free(store);
    free(folder);
}

static void end(struct session *s)
{
    run_close(s->fit.loop.run);
    parameters_free(s->fit.loop.parameters);
    latent_set_close(s->fit.data);
    training_state_release(&s->state);
}

/* The step of the last checkpoint; -1: none, -2 or -3: it does not load. */
static int64_t latest(const struct session *s)
{
    struct error e;
    struct training_state state;
    char *checkpoint;
    if (checkpoint_find(run_folder(s->fit.loop.run), &checkpoint, NULL, &e) != 0)
        return -1;
    int status = checkpoint_read_state(&state, checkpoint, &e);
    int64_t step = status == 0 ? state.step : -2;
    if (status == 0) {
        struct parameters *p;
        if (checkpoint_load_parameters(&p, &state, checkpoint, device, NULL, NULL, &e) == 0)
            parameters_free(p);
        else
            step = -3;
        training_state_release(&state);
    }
    free(checkpoint);
    return step;
}

/* How often a text occurs in the run's metrics. */
static int in_metrics(const struct session *s, const char *text)
{
    struct error e;
    uint8_t *data;
    size_t size;
    char *path = path_join(run_folder(s->fit.loop.run), "metrics.jsonl");
    if (file_read(&data, &size, path, 1 << 20, &e) != 0)
        die("%s", e.text);
    free(path);
    int count = 0;
    for (const char *at = (const char *)data; (at = strstr(at, text)); at += strlen(text))
        count++;
    free(data);
    return count;
}

static void test_steps_left(void)
{
    struct session s;
    begin(&s, "left", options(0));
    struct fit_options *o = &s.fit.loop.options;
    struct training_state *t = &s.state;
    /* 34 images make 4 steps of 8. */
    tap_ok(fit_loop_steps_left(&s.fit.loop) == -1,
           "without a limit, the number of steps is not known");
    o->epochs = 3;
    tap_ok(fit_loop_steps_left(&s.fit.loop) == 12, "three epochs of four steps are 12");
    t->at = (struct data_position){1, 16};
    tap_ok(fit_loop_steps_left(&s.fit.loop) == 6, "6 are left from the middle of the second");
    o->steps = 5;
    t->step = 2;
    tap_ok(fit_loop_steps_left(&s.fit.loop) == 3, "the nearer limit counts");
    t->step = 9;
    tap_ok(fit_loop_steps_left(&s.fit.loop) == 0, "none are left beyond the limit");
    end(&s);
}

static void test_complete(void)
{
    struct session s;
    struct error e;
    enum fit_end how;
    struct fit_options o = options(5);
    o.holdout_every = 2;
    o.checkpoint_every = 2;
    o.keep = 2;
    begin(&s, "complete", o);
    int status = fit_loop_run(&s.fit.loop, &how, &e);
    tap_ok(status == 0 && how == FIT_COMPLETE && s.state.step == 5, "a run completes");
    tap_ok(latest(&s) == 5 && run_checkpoints(s.fit.loop.run) == 2, "two checkpoints are kept");
    tap_ok(s.state.at.epoch == 1 && s.state.at.place == 8 && s.state.images == 40,
           "the state is in the second epoch");
    tap_ok(
        in_metrics(&s, "\"loss\":") == 5 && in_metrics(&s, "\"holdout-loss/raw\":") == 4,
        "each step's loss is logged; held-out losses at the start, twice in between, at the end");
    tap_ok(isfinite(s.state.holdout_loss) && isfinite(s.state.smoothed_loss) &&
               s.state.ema_decay == 0.99 && s.state.learning_rate == 1e-4,
           "the state has the last step's numbers");
    end(&s);
}

static void test_stopped(void)
{
    struct session s;
    struct error e;
    enum fit_end how;
    begin(&s, "stopped", options(5));
    stop = SIGTERM;
    int status = fit_loop_run(&s.fit.loop, &how, &e);
    stop = 0;
    tap_ok(status == 0 && how == FIT_STOPPED && s.state.step == 0, "a signal ends the run");
    tap_ok(latest(&s) == 0, "a checkpoint is saved even before the first step");
    end(&s);
}

static void test_bad_steps(void)
{
    struct session s;
    struct error e;
    enum fit_end how;
    begin(&s, "bad", options(50));
    int64_t n = s.fit.loop.parameters->trained_elements;
    float *wrong = xmalloc((size_t)n * sizeof *wrong);
    for (int64_t i = 0; i < n; i++)
        wrong[i] = 1e30f;
    parameters_write(s.fit.loop.parameters, ARRAY_WEIGHTS, 0, n, wrong);
    int status = fit_loop_run(&s.fit.loop, &how, &e);
    tap_ok(status == 0 && how == FIT_BAD, "non-finite steps end the run: %s", e.text);
    tap_ok(s.state.step == 3 && s.state.bad_steps == 3 && s.state.bad_steps_in_a_row == 3 &&
               s.fit.loop.parameters->updates == 0,
           "after three in a row, which updated nothing");
    tap_ok(latest(&s) == -1, "no checkpoint is saved");
    tap_ok(in_metrics(&s, "\"event\":\"bad-step\"") == 3, "each is in the metrics");
    tap_ok(memcmp(parameters_read(s.fit.loop.parameters, ARRAY_WEIGHTS, 0, n, NULL), wrong,
                  (size_t)n * sizeof *wrong) == 0,
           "the weights are unchanged");
    free(wrong);
    end(&s);
}

static void test_full_disk(void)
{
    struct session s;
    struct error e;
    enum fit_end how;
    struct fit_options o = options(4);
    begin(&s, "full", o);
    int status = fit_loop_run(&s.fit.loop, &how, &e);
    tap_ok(status == 0 && latest(&s) == 4, "a checkpoint is saved");
    s.fit.loop.options.steps = 8;
    s.fit.loop.options.checkpoint_every = 2;
    s.fit.loop.resumed = s.fit.loop.saved = true;
    struct rlimit whole, small;
    getrlimit(RLIMIT_FSIZE, &whole);
    small = whole;
    small.rlim_cur = 100000; /* bytes: enough for metrics only */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    status = fit_loop_run(&s.fit.loop, &how, &e);
    setrlimit(RLIMIT_FSIZE, &whole);
    tap_ok(status == -1 && strstr(e.text, "step-00000008"),
           "without space for checkpoints the run continues, and fails at the end: %s", e.text);
    tap_ok(latest(&s) == 4 && run_checkpoints(s.fit.loop.run) == 1,
           "the last checkpoint is intact");
    tap_ok(in_metrics(&s, "\"loss\":") == 8, "no step is missing");
    s.fit.loop.saved = false;
    status = fit_loop_run(&s.fit.loop, &how, &e);
    tap_ok(status == 0 && latest(&s) == 8, "with space, the checkpoint is written");
    end(&s);
}

int main(void)
{
    struct error e;
    message_init("fit");
    message_set_verbosity(VERBOSITY_QUIET);
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    if (!shards_write("store", RECORDS, 7, 16, 0))
        die("no store");
    test_steps_left();
    test_complete();
    test_stopped();
    test_bad_steps();
    test_full_disk();
    tap_ok(device_memory(device).in_use == 0, "all tensors were released");
    device_close(device);
    return tap_done();
}
