#include "common/fit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/train/metrics.h"

#define QUARTILES        4
#define SMOOTHING        0.02 /* of the loss that is shown: about the mean of the last 50 steps */
#define PATHS_IN_WARNING 3

/* What is logged next, of the steps since the last time. */
struct tally {
    int64_t steps, applied, images;
    double loss, gradient_norm;
    double quartile_loss[QUARTILES], quartile_count[QUARTILES];
    double begin, waited; /* seconds_now and batch_reader_waited then */
};

struct loop {
    const struct fit *f;
    struct training_state *s;
    int64_t effective_batch;
    struct step *step;
    struct batch_reader *reader;
    struct metrics *metrics;
    struct holdout_batch holdout;
    struct tally tally;
    struct progress *progress;
    int64_t first_step; /* when this process began */
    int64_t saved_step; /* of the last checkpoint; -1: none */
    double resumed_seconds, begin;
    bool metrics_failed;
};

/* Ranks must agree on it. */
static bool stop_wanted(const struct loop *l)
{
    double wanted = *l->f->stop != 0;
    collective_allreduce_host(l->f->collective, &wanted, 1);
    return wanted > 0;
}

static bool is_first_rank(const struct loop *l)
{
    return l->f->collective->rank == 0;
}

int64_t fit_steps_left(const struct fit_options *o, const struct dataset *d,
                       const struct training_state *s, int64_t effective_batch)
{
    int64_t left = INT64_MAX;
    if (o->steps > 0)
        left = o->steps - s->step;
    if (o->epochs > 0) {
        int64_t until = (o->epochs - s->at.epoch) * dataset_steps_per_epoch(d, effective_batch) -
                        s->at.place / effective_batch;
        left = until < left ? until : left;
    }
    return left == INT64_MAX ? -1 : left < 0 ? 0 : left;
}

/* The reference's rule of thumb. */
static void warn_of_overfitting(const struct fit *f)
{
    const struct shard_info *info = dataset_info(f->data);
    int64_t images = dataset_training_count(f->data);
    int64_t numbers = (int64_t)shard_latent_count(info) * images;
    char parameters[32], floats[32], count[32];
    if (3 * f->bank->parameters <= 2 * numbers)
        return;
    warn("the network is likely to learn the data by heart: its %s parameters are more than two "
         "thirds of the data's %s numbers (%d*%d*%d*%s images)",
         format_count(parameters, f->bank->parameters), format_count(floats, numbers),
         info->latent_height, info->latent_width, info->latent_channels,
         format_count(count, images));
}

void fit_announce(const struct fit *f, int64_t memory_bytes)
{
    const struct step_options *o = &f->options.step;
    int64_t ranks = f->collective->size, effective = o->batch * o->accumulate * ranks;
    char parameters[32], images[32], held_out[64] = "", steps[32], memory[32], product[80] = "";
    if (effective != o->batch)
        snprintf(product, sizeof product, " (%" PRId64 " x %" PRId64 " x %" PRId64 ")", o->batch,
                 o->accumulate, ranks);
    if (dataset_holdout_count(f->data) > 0)
        snprintf(held_out, sizeof held_out, " and %s held out",
                 format_count(images, dataset_holdout_count(f->data)));
    inform("effective batch %" PRId64 "%s, learning rate %.9g, %s parameters, %s images%s, %s "
           "steps per epoch, %s of memory",
           effective, product, f->options.rate.base, format_count(parameters, f->bank->parameters),
           format_count(images, dataset_training_count(f->data)), held_out,
           format_count(steps, dataset_steps_per_epoch(f->data, effective)),
           format_bytes(memory, (double)memory_bytes));
    warn_of_overfitting(f);
}

/* A run goes on without its numbers, say when the disk is full, but not in silence. */
static void metrics_result(struct loop *l, int status, const struct error *e)
{
    if (status != 0 && !l->metrics_failed)
        warn("cannot write the run's metrics: %s", e->text);
    l->metrics_failed = status != 0;
}

static void tally_reset(struct loop *l)
{
    l->tally = (struct tally){.begin = seconds_now(), .waited = batch_reader_waited(l->reader)};
}

static void tally_add(struct tally *t, const struct step_result *r)
{
    t->steps++;
    if (!r->applied)
        return;
    t->applied++;
    t->loss += r->loss;
    t->gradient_norm += r->gradient_norm;
    for (int64_t i = 0; i < r->count; i++) {
        int quartile = (int)(r->samples[i].t * QUARTILES);
        quartile = quartile < QUARTILES ? quartile : QUARTILES - 1;
        t->quartile_loss[quartile] += r->samples[i].loss;
        t->quartile_count[quartile]++;
    }
}

static void log_steps(struct loop *l)
{
    struct tally *t = &l->tally;
    struct training_state *s = l->s;
    double now = seconds_now(), seconds = now - t->begin;
    double applied = t->applied > 0 ? (double)t->applied : NAN;
    double images_per_second = (double)t->images / seconds;
    struct metric metrics[16] = {
        {"loss", t->loss / applied},
        {"loss/smoothed", s->smoothed_loss},
        {"gradient-norm", t->gradient_norm / applied},
        {"learning-rate", s->learning_rate},
        {"ema-decay", s->ema_decay},
        {"images-per-second", images_per_second},
        {"data-wait", (batch_reader_waited(l->reader) - t->waited) / seconds},
        {"epoch",
         (double)s->at.epoch + (double)s->at.place / (double)dataset_training_count(l->f->data)},
        {"bad-steps", (double)s->bad_steps},
        {"loss-scale", s->loss_scale},
    };
    static const char *const names[QUARTILES] = {"loss/t-quartile-1", "loss/t-quartile-2",
                                                 "loss/t-quartile-3", "loss/t-quartile-4"};
    double sums[2 * QUARTILES];
    memcpy(sums, t->quartile_loss, sizeof t->quartile_loss);
    memcpy(sums + QUARTILES, t->quartile_count, sizeof t->quartile_count);
    collective_allreduce_host(l->f->collective, sums, 2 * QUARTILES);
    int count = strcmp(s->precision, "fp16") == 0 ? 10 : 9;
    for (int i = 0; i < QUARTILES; i++)
        if (sums[QUARTILES + i] > 0)
            metrics[count++] = (struct metric){names[i], sums[i] / sums[QUARTILES + i]};
    note("step %" PRId64 ": loss %.5f, gradient norm %.4f, learning rate %.4g, %.1f images/s",
         s->step, t->loss / applied, t->gradient_norm / applied, s->learning_rate,
         images_per_second);
    struct error e;
    if (is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, s->step, metrics, count, &e), &e);
    tally_reset(l);
}

/* Mean loss of all held-out records; NaN when a signal came in between. */
static int evaluate(struct loop *l, enum bank_array which, double *mean, struct error *e)
{
    const struct fit *f = l->f;
    int64_t count = dataset_holdout_count(f->data), batch = f->options.step.batch;
    struct step_sample *samples = xcalloc((size_t)batch, sizeof *samples);
    double sum = 0;
    int status = 0;
    for (int64_t first = 0; first < count && status == 0; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        if (stop_wanted(l))
            sum = NAN;
        if (isnan(sum))
            break;
        status = holdout_batch_read(&l->holdout, f->data, first, n, e);
        if (status != 0)
            break;
        step_evaluate(l->step, which, &l->holdout.data, first, samples);
        for (int64_t i = 0; i < n; i++)
            sum += samples[i].loss;
    }
    free(samples);
    *mean = sum / (double)count;
    return status;
}

static int log_holdout(struct loop *l, struct error *e)
{
    struct training_state *s = l->s;
    double begin = seconds_now(), ema, raw;
    if (evaluate(l, BANK_EMA, &ema, e) != 0 || evaluate(l, BANK_PARAMETERS, &raw, e) != 0)
        return -1;
    l->tally.begin += seconds_now() - begin; /* images/s is that of training */
    if (stop_wanted(l))
        return 0;
    s->holdout_loss = ema;
    note("step %" PRId64 ": held-out loss %.5f, of the weights without averaging %.5f", s->step,
         ema, raw);
    struct metric metrics[] = {{"holdout-loss/ema", ema}, {"holdout-loss/raw", raw}};
    struct error written;
    if (is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, s->step, metrics, 2, &written), &written);
    return 0;
}

/* Warns of an update that was left out, naming some of what was in it; metrics.jsonl names all. */
static void report_bad_step(struct loop *l, const struct step_result *r)
{
    const struct training_state *s = l->s;
    char **paths = xcalloc((size_t)r->count, sizeof *paths), *named = xstrdup("");
    int count = 0;
    struct error e;
    for (int64_t i = 0; i < r->count; i++) {
        if (!r->samples[i].suspect)
            continue;
        if (dataset_path(l->f->data, (int64_t)r->samples[i].sample, &paths[count], &e) != 0)
            paths[count] = dataset_describe(l->f->data, (int64_t)r->samples[i].sample);
        if (count < PATHS_IN_WARNING) {
            char *longer = xasprintf("%s%s'%s'", named, count ? ", " : "", paths[count]);
            free(named);
            named = longer;
        }
        count++;
    }
    char *text = xasprintf("step %" PRId64 ": loss %g, gradient norm %g: not finite, update "
                           "skipped (%" PRId64 " in a row, %" PRId64 " in all)",
                           s->step - 1, fabs(r->loss), fabs(r->gradient_norm),
                           s->bad_steps_in_a_row, s->bad_steps);
    char more[40] = "";
    if (count > PATHS_IN_WARNING)
        snprintf(more, sizeof more, " and %d more", count - PATHS_IN_WARNING);
    warn("%s; it saw %s%s", text, named, more);
    int status =
        metrics_paths(l->metrics, s->step, "bad-step", text, (const char *const *)paths, count, &e);
    metrics_result(l, status, &e);
    for (int i = 0; i < count; i++)
        free(paths[i]);
    free(paths);
    free(named);
    free(text);
}

static void account(struct loop *l, const struct step_result *r, double rate, double decay)
{
    struct training_state *s = l->s;
    s->step++;
    s->images += l->effective_batch;
    s->at = dataset_advance(l->f->data, s->at, 1, l->effective_batch);
    s->learning_rate = rate;
    s->ema_decay = decay;
    s->updates = l->f->bank->updates;
    struct loss_scale loss_scale = step_loss_scale(l->step);
    s->loss_scale = loss_scale.scale;
    s->loss_scale_steps = loss_scale.updates;
    l->tally.images += l->effective_batch;
    tally_add(&l->tally, r);
    if (r->applied) {
        s->loss = r->loss;
        s->gradient_norm = r->gradient_norm;
        s->smoothed_loss = isnan(s->smoothed_loss)
                               ? r->loss
                               : s->smoothed_loss + SMOOTHING * (r->loss - s->smoothed_loss);
        s->bad_steps_in_a_row = 0;
        return;
    }
    if (r->rescaled) {
        note("step %" PRId64 ": gradients overflow, the loss scale becomes %g", s->step - 1,
             s->loss_scale);
        return;
    }
    s->bad_steps++;
    s->bad_steps_in_a_row++;
    report_bad_step(l, r);
}

/* 1: a signal came before all micro-batches were done; the weights are those of the step before. */
static int run_step(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    for (int64_t k = 0; k < o->step.accumulate; k++) {
        const struct dataset_batch *b;
        if (stop_wanted(l))
            return 1;
        if (batch_reader_next(l->reader, &b, e) != 0)
            return -1;
        CHECK(b->step == l->s->step && b->micro_batch == k);
        step_micro_batch(l->step, b->step, &b->data);
    }
    double rate = learning_rate_at(&o->rate, l->s->step);
    double decay = ema_decay_at(l->f->bank->updates + 1, o->ema_decay_at);
    struct step_result r;
    step_update(l->step, rate, decay, &r);
    account(l, &r, rate, decay);
    return 0;
}

static int save(struct loop *l, struct error *e)
{
    double begin = seconds_now();
    int status = 0;
    l->s->seconds = l->resumed_seconds + begin - l->begin;
    if (is_first_rank(l))
        status = checkpoint_save(l->f->run, l->f->bank, l->s, l->f->options.keep, e);
    collective_barrier(l->f->collective);
    if (status != 0)
        return -1;
    l->saved_step = l->s->step;
    l->tally.begin += seconds_now() - begin;
    note("step %" PRId64 ": checkpoint written", l->s->step);
    return 0;
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

/* Whether the grid is there says if it is still to be made: also after a run was killed while it
 * made one. */
static void demo_if_due(struct loop *l)
{
    const struct fit *f = l->f;
    const char *folder = run_folder(f->run);
    if (!f->demo || !is_first_rank(l) || !due(l->s->step, f->options.demo_every) || *f->stop ||
        demo_exists(folder, l->s->step))
        return;
    double begin = seconds_now();
    struct error e;
    if (demo_make(f->demo, folder, l->s->step, l->metrics, f->stop, &e) < 0)
        warn("cannot make the demo grid of step %" PRId64 ": %s", l->s->step, e.text);
    l->tally.begin += seconds_now() - begin;
}

static void show_progress(struct loop *l)
{
    char detail[96];
    snprintf(detail, sizeof detail, "step %" PRId64 ", epoch %" PRId64 ", loss %.4f", l->s->step,
             l->s->at.epoch, l->s->smoothed_loss);
    progress_update(l->progress, (l->s->step - l->first_step) * l->effective_batch, detail);
}

/* What is to be done after a step. A checkpoint that fails is tried again the next time: space may
 * be made until then. */
static int between_steps(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    struct error failure;
    show_progress(l);
    if (due(l->s->step, o->log_every))
        log_steps(l);
    if (dataset_holdout_count(l->f->data) > 0 && due(l->s->step, o->holdout_every) &&
        log_holdout(l, e) != 0)
        return -1;
    if (due(l->s->step, o->checkpoint_every) && save(l, &failure) != 0)
        warn("%s", failure.text);
    demo_if_due(l);
    return 0;
}

/* 1: signalled, 2: too many bad steps. */
static int run_loop(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    while (fit_steps_left(o, l->f->data, l->s, l->effective_batch) != 0) {
        int status = run_step(l, e);
        if (status != 0)
            return status;
        if (l->s->bad_steps_in_a_row >= o->max_bad_steps)
            return 2;
        if (between_steps(l, e) != 0)
            return -1;
    }
    return 0;
}

static int finish(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    if (l->tally.steps > 0)
        log_steps(l);
    if (dataset_holdout_count(l->f->data) > 0 && !stop_wanted(l) && l->s->step > l->first_step &&
        !due(l->s->step, o->holdout_every) && log_holdout(l, e) != 0)
        return -1;
    return l->saved_step == l->s->step ? 0 : save(l, e);
}

static int loop_open(struct loop *l, struct error *e)
{
    const struct fit *f = l->f;
    if (metrics_open(&l->metrics, run_folder(f->run), f->options.resumed ? l->s->step : -1, e))
        return error_prefix(e, "cannot write the metrics of '%s'", run_folder(f->run));
    if (step_open(&l->step, f->bank, f->collective, &f->options.step, e))
        return -1;
    l->effective_batch = step_effective_batch(l->step);
    const char *precision = device_precision(f->bank->device);
    if (f->options.resumed && strcmp(f->state->precision, precision) == 0)
        step_set_loss_scale(l->step,
                            (struct loss_scale){f->state->loss_scale, f->state->loss_scale_steps});
    snprintf(l->s->precision, sizeof l->s->precision, "%s", precision);
    struct batch_reader_options reader = {
        .seed = f->options.step.seed,
        .batch = f->options.step.batch,
        .accumulate = f->options.step.accumulate,
        .rank = f->collective->rank,
        .ranks = f->collective->size,
        .first_step = l->s->step,
        .start = l->s->at,
    };
    return batch_reader_open(&l->reader, f->data, &reader, e);
}

static void loop_close(struct loop *l)
{
    batch_reader_close(l->reader);
    step_close(l->step);
    metrics_close(l->metrics);
    holdout_batch_release(&l->holdout);
    progress_finish(l->progress);
}

static int begin(struct loop *l, struct error *e)
{
    tally_reset(l);
    l->begin = seconds_now();
    l->resumed_seconds = l->s->seconds;
    l->first_step = l->s->step;
    l->saved_step = l->f->options.saved ? l->s->step : -1;
    if (!l->f->options.resumed && dataset_holdout_count(l->f->data) > 0 && log_holdout(l, e) != 0)
        return -1;
    demo_if_due(l);
    int64_t left = fit_steps_left(&l->f->options, l->f->data, l->s, l->effective_batch);
    l->progress = progress_start("training", "images", left < 0 ? -1 : left * l->effective_batch);
    tally_reset(l);
    return 0;
}

int fit_run(const struct fit *f, enum fit_end *end, struct error *e)
{
    struct loop l = {.f = f, .s = f->state};
    holdout_batch_init(&l.holdout);
    int status = loop_open(&l, e);
    if (status == 0)
        status = begin(&l, e);
    if (status == 0)
        status = run_loop(&l, e);
    progress_finish(l.progress);
    l.progress = NULL;
    *end = status == 1 ? FIT_STOPPED : status == 2 ? FIT_BAD : FIT_COMPLETE;
    if (status == 2)
        error_set(e, "%" PRId64 " steps in a row were not finite, up to step %" PRId64,
                  f->state->bad_steps_in_a_row, f->state->step - 1);
    if (status == 0 || status == 1)
        status = finish(&l, e);
    loop_close(&l);
    return status < 0 ? -1 : 0;
}
