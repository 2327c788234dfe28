#include "common/fit/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/signal_name.h"
#include "common/base/text.h"
#include "common/fit/compare.h"
#include "common/fit/launched.h"
#include "common/fit/memory.h"
#include "common/fit/trainer_ranks.h"
#include "common/nets/model.h"
#include "common/program/device.h"
#include "common/program/stop.h"
#include "common/run/options.h"
#include "common/train/completion.h"

/* Parses at_least to count comma-separated numbers and returns their number. */
static int parse_numbers(double *numbers, int at_least, int count, const char *option,
                         const char *text)
{
    const char *at = text;
    for (int i = 0; i < count; i++) {
        char *end;
        numbers[i] = strtod(at, &end);
        bool number = end != at && isfinite(numbers[i]);
        if (number && *end == '\0' && i + 1 >= at_least)
            return i + 1;
        if (!number || *end != ',')
            break;
        at = end + 1;
    }
    if (at_least == count)
        die_usage("option '--%s': '%s' is not a list of %d comma-separated numbers", option, text,
                  count);
    die_usage("option '--%s': '%s' is not a list of %d to %d comma-separated numbers", option, text,
              at_least, count);
}

int trainer_parse_multipliers(int64_t *multipliers, int at_least, int count, const char *option,
                              const char *text)
{
    double numbers[16];
    CHECK(count <= 16);
    int n = parse_numbers(numbers, at_least, count, option, text);
    for (int i = 0; i < n; i++) {
        if (!(numbers[i] >= 1 && numbers[i] <= 1024) || numbers[i] != floor(numbers[i]))
            die_usage("option '--%s': '%s' is not a list of whole numbers from 1 to 1024", option,
                      text);
        multipliers[i] = (int64_t)numbers[i];
    }
    return n;
}

static void check_unchanged(const struct trainer *t, const char *name)
{
    const char *before = training_state_option(&t->saved, name);
    const struct option *o = option_find(t->program, name);
    char *now = option_text(o), value[200] = "";
    bool differs = now && option_given(name) && (!before || strcmp(before, now) != 0);
    if (now && o->kind != OPTION_FLAG)
        snprintf(value, sizeof value, " %s", now);
    free(now);
    if (differs)
        die_usage("--%s%s differs from the checkpoint: --resume cannot change it", name, value);
}

#define NAMES_MAX 32

/* The options that a checkpoint does not store; ends with NULL. */
static void not_saved(const char *names[NAMES_MAX], const struct trainer *t)
{
    int count = 0;
    names[count++] = "output";
    names[count++] = "resume";
    names[count++] = "null";
    names[count++] = "devices";
    for (int i = 0; t->init_from && t->architecture[i]; i++) {
        CHECK(count < NAMES_MAX - 1);
        names[count++] = t->architecture[i];
    }
    names[count] = NULL;
}

/* Before options are restored, which another program's run has, too, with other meanings. */
static void check_origin(const struct trainer *t)
{
    static const char *const programs[] = {
        [NET_UNET] = "ccld-fit",
        [NET_KL] = "ccld-fit-autoencoder",
        [NET_CLOOB] = "ccld-fit-cloob",
    };
    enum net net;
    if (training_state_net(&net, &t->saved) && net != t->net)
        die("cannot resume from '%s': it is a run of %s", t->resume, programs[net]);
}

static void read_origin(struct trainer *t)
{
    struct error e;
    const char *except[NAMES_MAX];
    struct fit_options *o = &t->loop->options;
    if (t->init_from)
        die_usage("--resume and --init-from cannot be combined: resuming is not finetuning");
    if (checkpoint_find(t->resume, &t->origin.checkpoint, &t->origin.run, &e) != 0)
        die("cannot resume from '%s': %s", t->resume, e.text);
    if (checkpoint_read_state(&t->saved, t->origin.checkpoint, &e) != 0)
        die("cannot resume from '%s': %s", t->origin.checkpoint, e.text);
    check_origin(t);
    for (int i = 0; t->architecture[i]; i++)
        check_unchanged(t, t->architecture[i]);
    for (int i = 0; t->fixed && t->fixed[i]; i++)
        check_unchanged(t, t->fixed[i]);
    bool steps = option_given("steps"), epochs = option_given("epochs");
    not_saved(except, t);
    t->changes = run_options_restore(&t->saved, t->program, except);
    /* A new limit replaces the old one, of either kind. */
    if (epochs && !steps)
        o->steps = 0;
    if (steps && !epochs)
        o->epochs = 0;
}

static void check_init_from(const struct trainer *t)
{
    bool given = false;
    char *refused = xstrdup("");
    for (int i = 0; t->architecture[i]; i++) {
        given |= option_given(t->architecture[i]);
        const char *join = !i ? "" : t->architecture[i + 1] ? ", " : " or ";
        xappend(&refused, "%s--%s", join, t->architecture[i]);
    }
    if (given)
        die_usage("--init-from sets the architecture: it cannot be combined with %s", refused);
    free(refused);
}

/* A run or model can stand for the network's file in it. */
static void find_init_from(struct trainer *t)
{
    struct error e;
    t->init_from = model_file(t->init_from, t->net, &e);
    if (!t->init_from)
        die("cannot start from other weights: %s", e.text);
}

static void check_options(struct trainer *t)
{
    struct fit_options *o = &t->loop->options;
    double betas[2];
    parse_numbers(betas, 2, 2, "betas", t->betas);
    if (!(betas[0] >= 0 && betas[0] < 1 && betas[1] >= 0 && betas[1] < 1))
        die_usage("option '--betas': '%s': both must be at least 0 and less than 1", t->betas);
    if (o->rate.schedule == LEARNING_RATE_COSINE && !o->steps && !o->epochs)
        die_usage("--lr-schedule cosine needs --steps or --epochs");
    option_requires("holdout-every", o->holdout || option_given("holdout") || !o->holdout_every,
                    "--holdout");
    o->step.adamw.beta1 = betas[0];
    o->step.adamw.beta2 = betas[1];
    o->rate.steps = o->steps;
}

static bool is_first_rank(const struct trainer *t)
{
    return t->loop->collective->rank == 0;
}

void trainer_begin(struct trainer *t, struct fit_loop *loop)
{
    stop_not_by_writing();
    t->loop = loop;
    trainer_choose_devices(t);
    if (t->resume) {
        read_origin(t);
        trainer_keep_effective_batch(t);
    }
    t->folder = t->run ? t->run : t->origin.run;
    if (!t->folder)
        die_usage("no run folder given: name one with -o");
    if (t->init_from)
        check_init_from(t);
    if (t->init_from && !t->resume)
        find_init_from(t);
    check_options(t);
    training_state_init(&t->state);
    if (t->origin.checkpoint) {
        t->state = t->saved;
        t->state.options =
            (struct training_options){0}; /* trainer_set_data stores the present ones */
    }
    loop->state = &t->state;
    loop->resumed = t->origin.checkpoint != NULL;
    trainer_start_ranks(t, stop_caught()); /* with all options in force */
}

bool trainer_is_from_scratch(const struct trainer *t)
{
    return !t->origin.checkpoint && !t->init_from;
}

/* A parameters_prepare. */
static void place_parameters(void *context, struct parameters *p)
{
    const struct trainer *t = context;
    int *completion = xcalloc((size_t)p->trained_count + 1, sizeof *completion);
    completion_find(p, completion);
    if (t->loop->options.step.optimizer == OPTIMIZER_MUON)
        parameters_kernels_first(p);
    parameters_place(p, t->loop->collective, completion);
    free(completion);
}

/* On the trainer's device, or on the dry one, where nothing is read. */
static void make_parameters(struct trainer *t, struct device *d)
{
    struct error e;
    struct parameters **p = &t->loop->parameters;
    const char *checkpoint = t->origin.checkpoint;
    int status = 0;
    if (checkpoint && d->dry)
        status = checkpoint_plan_parameters(p, &t->saved, checkpoint, d, &e);
    else if (checkpoint)
        status = checkpoint_load_parameters(p, &t->saved, checkpoint, d, place_parameters, t, &e);
    if (status != 0)
        die("cannot resume from '%s': %s", checkpoint, e.text);
    if (!checkpoint && t->init_from) {
        if (parameters_from_file(p, t->init_from, t->net, t->frozen, d, &e) != 0)
            die("%s", e.text);
    } else if (!checkpoint) {
        *p = parameters_new(&t->planned, t->net, t->loop->options.step.seed, d);
    }
    for (struct parameters *q = !checkpoint || d->dry ? *p : NULL; q; q = q->companion)
        place_parameters(t, q);
}

void trainer_plan_parameters(struct trainer *t, struct architecture *architecture,
                             bool (*fixed)(const char *name))
{
    t->device = program_open_device();
    t->device->advice = t->advice;
    t->dry = device_open_dry(t->device);
    t->planned = *architecture;
    t->frozen = fixed;
    trainer_connect_gpus(t);
    make_parameters(t, t->dry);
}

void trainer_make_parameters(struct trainer *t)
{
    struct error e;
    t->memory = fit_memory(t->loop, t->device);
    if (fit_check_memory(t->loop, t->device, t->memory, &e) != 0)
        die("not enough memory: %s", e.text);
    parameters_free(t->loop->parameters);
    device_close(t->dry);
    make_parameters(t, t->device);
    architecture_release(&t->planned);
}

static bool is_stdin(int operands, char **argv)
{
    return operands == 1 && strcmp(argv[1], "-") == 0;
}

void trainer_expect_list(struct trainer *t, int operands, char **argv)
{
    t->reads_stdin = operands == 0 ? !t->resume : is_stdin(operands, argv);
}

struct image_set *trainer_open_images(const struct trainer *t, const struct image_set_options *set,
                                      int operands, char **argv, bool null_separated,
                                      const char *list, const char *missing)
{
    struct image_set *images;
    struct error e;
    struct path_source source;
    struct image_set_options scarce = *set;
    size_t eighth = (size_t)memory_limit_left(t->ranks_count, "").bytes / 8;
    if (scarce.cache_bytes > eighth)
        scarce.cache_bytes = eighth;
    bool from_stdin = operands == 0 || is_stdin(operands, argv);
    if (operands == 0 && t->origin.checkpoint) {
        char *file = path_join(t->origin.run, list);
        if (image_set_reopen(&images, file, &scarce, &e) != 0)
            die("cannot resume from '%s': %s", t->origin.checkpoint, e.text);
        free(file);
        return images;
    }
    if (from_stdin && isatty(STDIN_FILENO))
        die_usage("%s", missing);
    if (from_stdin)
        path_source_stream(&source, STDIN_FILENO, null_separated ? '\0' : '\n');
    else
        path_source_arguments(&source, operands, argv + 1);
    if (image_set_open(&images, &source, &scarce, &e) != 0)
        die("cannot train: %s", e.text);
    path_source_release(&source);
    return images;
}

void trainer_describe_images(struct run_data *data, const struct image_set *images)
{
    const struct image_set_options *set = image_set_options(images);
    *data = (struct run_data){
        .store = {.image_height = set->height, .image_width = set->width, .embed_dtype = DTYPE_F32},
        .order = image_set_order(images),
    };
    strcpy(data->store.preprocessing, set->color == PREPARE_PIL ? "pil" : "display");
    image_set_hash(data->hash, images);
}

/* Says what would: a smaller batch, and if none does, fewer micro-batches or ranks. */
_Noreturn static void refuse_batch(const struct trainer *t, int64_t images, int64_t effective)
{
    const struct step_options *o = &t->loop->options.step;
    int64_t ranks = t->loop->collective->size, each = images / ranks;
    char remedy[64] = "train on fewer devices";
    if (each >= o->accumulate)
        snprintf(remedy, sizeof remedy, "-b %" PRId64 " would", each / o->accumulate);
    else if (each > 0)
        snprintf(remedy, sizeof remedy, "-b 1 --accumulate %" PRId64 " would", each);
    die("cannot train: %" PRId64 " training %s%s not fill an effective batch of %" PRId64 ": %s",
        images, t->sample, images == 1 ? " does" : "s do", effective, remedy);
}

void trainer_set_data(struct trainer *t, const struct run_data *data)
{
    struct error e;
    struct fit_loop *f = t->loop;
    const char *except[NAMES_MAX];
    int64_t effective = step_effective_batch(&f->options.step, f->collective);
    int64_t steps = order_steps_per_epoch(data->order, effective);
    if (steps == 0)
        refuse_batch(t, order_training_count(data->order), effective);
    if (f->resumed && run_check_data(f->state, &t->saved, data, effective, &e) != 0)
        die("cannot resume from '%s' with these data: %s", t->origin.checkpoint, e.text);
    run_record_data(f->state, data);
    f->state->seed = f->options.step.seed;
    not_saved(except, t);
    run_options_store(f->state, t->program, except);
    if (f->collective->size > 1) {
        char ranks[16];
        snprintf(ranks, sizeof ranks, "%d", f->collective->size);
        training_state_set_option(f->state, "ranks", ranks);
    }
    f->order = data->order;
    if (f->options.rate.steps == 0)
        f->options.rate.steps = f->options.epochs * steps;
}

void trainer_run_folder(struct trainer *t)
{
    struct error e;
    struct fit_loop *f = t->loop;
    if (compare_training(f, t->program, t->ranks.host, &e) != 0)
        die("cannot train: %s", e.text);
    collective_barrier(f->collective); /* all ranks have read the checkpoint to resume from */
    if (is_first_rank(t) && run_begin(&f->run, &f->saved, t->folder, &t->origin,
                                      checkpoint_bytes(f->parameters), &e) != 0)
        die("cannot train in '%s': %s", t->folder, e.text);
    double saved = f->saved;
    collective_sum(f->collective, &saved, 1);
    f->saved = saved > 0;
}

void trainer_save_images(const struct trainer *t, const struct image_set *images, const char *list)
{
    struct error e;
    char *file = path_join(t->folder, list);
    if (is_first_rank(t) && image_set_save(images, file, &e) != 0)
        die("cannot write '%s': %s", file, e.text);
    free(file);
}

void trainer_announce(const struct trainer *t)
{
    fit_loop_announce(t->loop, t->memory);
    if (t->origin.checkpoint)
        inform("resuming from '%s'%s%s", t->origin.checkpoint, t->changes ? " with " : "",
               t->changes ? t->changes : "");
}

/* The signal that has stopped the run: it may have reached another rank only. */
static int stop_signal(const struct trainer *t)
{
    struct collective *c = t->loop->collective;
    int own = *t->loop->stop, *all = xcalloc((size_t)c->size, sizeof *all), signal = 0;
    collective_gather(c, &own, all, sizeof own);
    for (int r = 0; r < c->size && signal == 0; r++)
        signal = all[r];
    free(all);
    return signal;
}

static void report(const struct trainer *t, enum fit_end end, int64_t steps, double seconds)
{
    const struct training_state *s = &t->state;
    const char *folder = t->folder;
    int64_t effective_batch = step_effective_batch(&t->loop->options.step, t->loop->collective);
    char duration[32], holdout[48] = "";
    double images = (double)(steps * effective_batch);
    if (isfinite(s->holdout_loss))
        snprintf(holdout, sizeof holdout, ", held-out loss %.5f", s->holdout_loss);
    if (end == FIT_STOPPED)
        inform("SIG%s: stopped after step %" PRId64 "; resume with --resume %s",
               signal_name(stop_signal(t)), s->step, folder);
    else if (steps == 0)
        inform("nothing to do: step %" PRId64
               " is the last one of run '%s': give more --steps or --epochs",
               s->step, folder);
    else
        inform("%" PRId64
               " step%s in %s (%.1f images/s), loss %.5f%s; run '%s' is at step %" PRId64,
               steps, plural(steps), format_duration(duration, seconds), images / seconds,
               s->smoothed_loss, holdout, folder, s->step);
}

_Noreturn static void end_bad(const struct trainer *t, const struct error *e)
{
    struct error none;
    char *last = NULL;
    if (!is_first_rank(t)) /* which says why */
        exit(1);
    int found = checkpoint_find(t->folder, &last, NULL, &none);
    die("training failed: %s; %s%s%s", e->text,
        found == 0 ? "the last checkpoint is '" : "there is no checkpoint", found == 0 ? last : "",
        found == 0 ? "'" : "");
}

void trainer_run(struct trainer *t)
{
    struct error e;
    enum fit_end end;
    int64_t first_step = t->state.step;
    double begin = seconds_now();
    if (t->ranks_count > 1)
        ranks_ready(&t->ranks, t->program->name);
    if (t->ranks_count <= 1 || t->ranks.launched)
        stop_catch();
    if (fit_loop_run(t->loop, &end, &e) != 0) {
        if (!*e.text)
            exit(1);
        die(FIT_CANNOT_CONTINUE, e.text);
    }
    if (end == FIT_BAD)
        end_bad(t, &e);
    report(t, end, t->state.step - first_step, seconds_now() - begin);
}

void trainer_end(struct trainer *t)
{
    run_close(t->loop->run);
    parameters_free(t->loop->parameters);
    launched_end();
    collective_close(t->loop->collective);
    device_close(t->device);
    training_state_release(&t->state);
    if (t->origin.checkpoint)
        training_state_release(&t->saved);
    free(t->origin.checkpoint);
    free(t->origin.run);
    free(t->changes);
}
