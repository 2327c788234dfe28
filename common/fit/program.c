#include "common/fit/program.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/run/options.h"

volatile sig_atomic_t fit_tool_stop;
static atomic_flag signalled = ATOMIC_FLAG_INIT;

/* The first signal asks for a checkpoint, the second does not wait for it. */
static void on_signal(int number)
{
    if (atomic_flag_test_and_set(&signalled))
        _exit(128 + number);
    fit_tool_stop = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

int fit_tool_parse_numbers(double *numbers, int at_least, int count, const char *option,
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
        die_usage("option '--%s': '%s' is not %d numbers with commas between them", option, text,
                  count);
    die_usage("option '--%s': '%s' is not %d to %d numbers with commas between them", option, text,
              at_least, count);
}

int fit_tool_parse_multipliers(int64_t *multipliers, int at_least, int count, const char *option,
                               const char *text)
{
    double numbers[16];
    CHECK(count <= 16);
    int n = fit_tool_parse_numbers(numbers, at_least, count, option, text);
    for (int i = 0; i < n; i++) {
        if (!(numbers[i] >= 1 && numbers[i] <= 1024) || numbers[i] != floor(numbers[i]))
            die_usage("option '--%s': '%s' are not whole numbers from 1 to 1024", option, text);
        multipliers[i] = (int64_t)numbers[i];
    }
    return n;
}

struct fit_loop_options fit_tool_loop_options(const struct fit_tool_options *o,
                                              struct adamw_options *adamw)
{
    double betas[2];
    fit_tool_parse_numbers(betas, 2, 2, "betas", o->betas);
    if (!(betas[0] >= 0 && betas[0] < 1 && betas[1] >= 0 && betas[1] < 1))
        die_usage("option '--betas': '%s' are not from 0 to below 1", o->betas);
    if (o->lr_schedule == LEARNING_RATE_COSINE && !o->steps && !o->epochs)
        die_usage("--lr-schedule cosine needs an end: give --steps or --epochs");
    *adamw = (struct adamw_options)ADAMW_DEFAULTS;
    adamw->beta1 = betas[0];
    adamw->beta2 = betas[1];
    adamw->weight_decay = o->weight_decay;
    return (struct fit_loop_options){
        .batch = o->batch_size,
        .accumulate = o->accumulate,
        .rate = {.schedule = (enum learning_rate_schedule)o->lr_schedule,
                 .base = o->lr,
                 .warmup = o->warmup,
                 .steps = o->steps},
        .ema_decay_at = o->ema_decay_at,
        .steps = o->steps,
        .epochs = o->epochs,
        .checkpoint_every = o->checkpoint_every,
        .keep = o->keep,
        .log_every = o->log_every,
        .holdout_every = o->holdout_every,
        .max_bad_steps = o->max_bad_steps,
    };
}

static void check_same_architecture(const struct training_state *saved,
                                    const struct program *program, const char *name)
{
    const char *before = training_state_option(saved, name);
    const struct option *o = option_find(program, name);
    char *now = option_text(o), shown[200];
    bool differs = now && option_given(name) && (!before || strcmp(before, now) != 0);
    snprintf(shown, sizeof shown, "%s%s", o->kind == OPTION_FLAG ? "" : " ",
             o->kind == OPTION_FLAG || !now ? "" : now);
    free(now);
    if (differs)
        die_usage("--%s%s does not go with --resume: the checkpoint has its architecture", name,
                  shown);
}

void fit_tool_read_origin(struct fit_tool_origin *o, struct fit_tool_options *options,
                          const struct program *program, const char *const *architecture,
                          const char *const *except)
{
    struct error e;
    if (!options->resume)
        return;
    if (options->init_from)
        die_usage("--resume and --init-from do not go together: going on is no finetuning");
    if (checkpoint_find(options->resume, &o->at.checkpoint, &o->at.run, &e) != 0)
        die("cannot go on from '%s': %s", options->resume, e.text);
    if (checkpoint_read_state(&o->saved, o->at.checkpoint, &e) != 0)
        die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
    for (int i = 0; architecture[i]; i++)
        check_same_architecture(&o->saved, program, architecture[i]);
    bool steps = option_given("steps"), epochs = option_given("epochs");
    o->changes = saved_options_restore(&o->saved, program, except);
    /* A new end takes the place of the old one, of whichever kind. */
    options->steps = epochs && !steps ? 0 : options->steps;
    options->epochs = steps && !epochs ? 0 : options->epochs;
}

void fit_tool_release_origin(struct fit_tool_origin *o)
{
    if (o->at.checkpoint)
        training_state_release(&o->saved);
    free(o->at.checkpoint);
    free(o->at.run);
    free(o->changes);
}

void fit_tool_prepare_state(struct training_state *s, const struct fit_tool_origin *o)
{
    training_state_init(s);
    if (!o->at.checkpoint)
        return;
    *s = o->saved;
    s->options = NULL; /* those of the command line come */
    s->option_count = 0;
}

const char *fit_tool_run_folder(const struct fit_tool_options *options,
                                const struct fit_tool_origin *o, const char *const *architecture)
{
    const char *folder = options->run ? options->run : o->at.run;
    if (!folder)
        die_usage("no run: name a folder with -o");
    bool given = false;
    char *refused = xstrdup("");
    for (int i = 0; options->init_from && architecture[i]; i++) {
        given |= option_given(architecture[i]);
        char *longer = xasprintf("%s%sno --%s", refused,
                                 !i                    ? ""
                                 : architecture[i + 1] ? ", "
                                                       : " and ",
                                 architecture[i]);
        free(refused);
        refused = longer;
    }
    if (given)
        die_usage("--init-from brings its architecture: %s with it", refused);
    free(refused);
    return folder;
}

void fit_tool_announce_origin(const struct fit_tool_origin *o)
{
    if (o->at.checkpoint)
        inform("going on from '%s'%s%s", o->at.checkpoint, o->changes ? " with " : "",
               o->changes ? o->changes : "");
}

static void report(const struct training_state *s, const char *folder, enum fit_end end,
                   int64_t steps, int64_t effective_batch, double seconds)
{
    char duration[32], holdout[48] = "";
    double images = (double)(steps * effective_batch);
    if (isfinite(s->holdout_loss))
        snprintf(holdout, sizeof holdout, ", held-out loss %.5f", s->holdout_loss);
    if (end == FIT_STOPPED)
        inform("SIG%s: stopped after step %" PRId64 "; go on with --resume %s",
               sigabbrev_np(fit_tool_stop), s->step, folder);
    else if (steps == 0)
        inform("nothing to do: step %" PRId64 " is the end of run '%s'", s->step, folder);
    else
        inform("%" PRId64 " steps in %s (%.1f images/s), loss %.5f%s; '%s' stands at step %" PRId64,
               steps, format_duration(duration, seconds), images / seconds, s->smoothed_loss,
               holdout, folder, s->step);
}

void fit_tool_train(const struct training_state *s, const struct run *r, int64_t effective_batch,
                    int (*run)(const void *context, enum fit_end *end, struct error *e),
                    const void *context)
{
    struct error e;
    enum fit_end end;
    int64_t first_step = s->step;
    double begin = seconds_now();
    catch_signals();
    if (run(context, &end, &e) != 0)
        die("cannot go on training: %s", e.text);
    if (end == FIT_BAD) {
        struct error none;
        char *last = NULL;
        int found = checkpoint_find(run_folder(r), &last, NULL, &none);
        die("training has come to nothing: %s; %s%s%s", e.text,
            found == 0 ? "the last checkpoint is '" : "there is no checkpoint",
            found == 0 ? last : "", found == 0 ? "'" : "");
    }
    report(s, run_folder(r), end, s->step - first_step, effective_batch, seconds_now() - begin);
}
