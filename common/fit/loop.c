#include "common/fit/loop.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/fit/demo.h"
#include "common/train/watchdog.h"

#define SMOOTHING        0.02 /* of the displayed loss: about the mean of 50 steps */
#define PATHS_IN_WARNING 3
#define TOLD_AT_ONCE     64 /* unreadable records that a rank tells the others of */

/* Sums over the steps since metrics were last logged. */
struct tally {
    int64_t steps, applied, images;
    double loss, gradient_norm;
    double begin, waited; /* seconds_now and the trainee's `waited` at that time */
};

struct loop {
    const struct fit_loop *f;
    void *trainee;
    struct training_state *s;
    int64_t effective_batch;
    struct metrics *metrics;
    struct tally tally;
    struct progress *progress;
    int64_t first_step; /* the state's when this process started */
    int64_t saved_step; /* of the last checkpoint; -1: none */
    double resumed_seconds, begin;
    bool metrics_failed;
};

void fit_number(struct fit_numbers *n, const char *name, double value)
{
    CHECK(n->count < FIT_NUMBERS_MAX);
    n->items[n->count++] = (struct metric){name, value};
}

bool fit_stop_requested(const struct fit_loop *f)
{
    double requested = *f->stop != 0;
    collective_sum(f->collective, &requested, 1);
    if (requested > 0)
        watchdog_stopping();
    return requested > 0;
}

int fit_agree(const struct fit_loop *f, int status, struct error *e)
{
    struct collective *c = f->collective;
    int *all = xcalloc((size_t)c->size, sizeof *all), first = 0;
    struct error why = {""};
    collective_gather(c, &status, all, sizeof status);
    while (first < c->size && all[first] == 0)
        first++;
    free(all);
    if (first == c->size)
        return 0;
    if (first == c->rank)
        why = *e;
    collective_broadcast(c, first, &why, sizeof why);
    return error_set(e, "%s", why.text);
}

struct batch_reader_options fit_loop_reader_options(const struct fit_loop *f)
{
    return (struct batch_reader_options){
        .seed = f->options.step.seed,
        .batch = f->options.step.batch,
        .accumulate = f->options.step.accumulate,
        .rank = f->collective->rank,
        .ranks = f->collective->size,
        .first_step = f->state->step,
        .start = f->state->at,
    };
}

static bool is_first_rank(const struct loop *l)
{
    return l->f->collective->rank == 0;
}

static int64_t effective_batch(const struct fit_loop *f)
{
    return step_effective_batch(&f->options.step, f->collective);
}

int64_t fit_loop_steps_left(const struct fit_loop *f)
{
    const struct fit_options *o = &f->options;
    const struct training_state *s = f->state;
    int64_t left = INT64_MAX, batch = effective_batch(f);
    if (o->steps > 0)
        left = o->steps - s->step;
    if (o->epochs > 0) {
        int64_t until = (o->epochs - s->at.epoch) * order_steps_per_epoch(f->order, batch) -
                        s->at.place / batch;
        left = until < left ? until : left;
    }
    return left == INT64_MAX ? -1 : left < 0 ? 0 : left;
}

void fit_loop_announce(const struct fit_loop *f, int64_t memory_bytes)
{
    const struct step_options *o = &f->options.step;
    int ranks = f->collective->size;
    int64_t effective = effective_batch(f);
    char parameters[32], images[32], held_out[64] = "", steps[32], memory[32], product[80] = "";
    if (effective != o->batch)
        snprintf(product, sizeof product, " (%" PRId64 " x %" PRId64 " x %d)", o->batch,
                 o->accumulate, ranks);
    if (f->order->holdout > 0)
        snprintf(held_out, sizeof held_out, " and %s held out",
                 format_count(images, f->order->holdout));
    inform("effective batch %" PRId64 "%s, learning rate %.9g, %s parameters, %s images%s, %s "
           "steps per epoch, %s of memory",
           effective, product, f->options.rate.base,
           format_count(parameters, f->parameters->parameter_count),
           format_count(images, order_training_count(f->order)), held_out,
           format_count(steps, order_steps_per_epoch(f->order, effective)),
           format_bytes(memory, (double)memory_bytes));
    if (f->functions->announce)
        f->functions->announce(f);
}

/* If metrics cannot be written, say because the disk is full, the run continues with a warning. */
static void metrics_result(struct loop *l, int status, const struct error *e)
{
    if (status != 0 && !l->metrics_failed)
        warn("cannot write the run's metrics: %s", e->text);
    l->metrics_failed = status != 0;
}

static void tally_reset(struct loop *l)
{
    double waited = l->f->functions->waited(l->trainee);
    l->tally = (struct tally){.begin = seconds_now(), .waited = waited};
}

static void tally_add(struct tally *t, const struct step_result *r)
{
    t->steps++;
    if (!r->applied)
        return;
    t->applied++;
    t->loss += r->loss;
    t->gradient_norm += r->gradient_norm;
}

static void log_steps(struct loop *l)
{
    const struct fit_loop *f = l->f;
    struct tally *t = &l->tally;
    struct training_state *s = l->s;
    double now = seconds_now(), seconds = now - t->begin;
    double applied = t->applied > 0 ? (double)t->applied : NAN;
    double images_per_second = (double)t->images / seconds;
    double waited = f->functions->waited(l->trainee) - t->waited;
    double place = (double)s->at.place / (double)order_training_count(f->order);
    struct fit_numbers n = {0};
    fit_number(&n, "loss", t->loss / applied);
    fit_number(&n, "loss/smoothed", s->smoothed_loss);
    fit_number(&n, "gradient-norm", t->gradient_norm / applied);
    fit_number(&n, "learning-rate", s->learning_rate);
    fit_number(&n, "ema-decay", s->ema_decay);
    fit_number(&n, "images-per-second", images_per_second);
    fit_number(&n, "data-wait", waited / seconds);
    fit_number(&n, "epoch", (double)s->at.epoch + place);
    fit_number(&n, "bad-steps", (double)s->bad_steps);
    int64_t unreadable = unreadable_agreed(f->functions->unreadable(l->trainee));
    if (unreadable > 0)
        fit_number(&n, "unreadable", (double)unreadable);
    if (strcmp(s->precision, "fp16") == 0)
        fit_number(&n, "loss-scale", s->loss_scale);
    if (f->functions->numbers)
        f->functions->numbers(l->trainee, &n);
    note("step %" PRId64 ": loss %.5f, gradient norm %.4f, learning rate %.4g, %.1f images/s",
         s->step, t->loss / applied, t->gradient_norm / applied, s->learning_rate,
         images_per_second);
    struct error e;
    if (is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, s->step, n.items, n.count, &e), &e);
    tally_reset(l);
}

static int log_holdout(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    struct fit_numbers n = {0};
    double begin = seconds_now();
    parameters_gather_ema(f->parameters);
    int status = f->functions->evaluate(l->trainee, &n, e);
    l->tally.begin += seconds_now() - begin; /* do not count it in images/s */
    if (status != 0)
        return status < 0 ? -1 : 0;
    l->s->holdout_loss = n.items[0].value;
    note("step %" PRId64 ": %s", l->s->step, n.text);
    struct error written;
    if (is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, l->s->step, n.items, n.count, &written),
                       &written);
    return 0;
}

/* Suspects of all ranks, in the order of the ranks. The caller frees the result. */
static uint64_t *gather_suspects(const struct loop *l, const struct step_result *r, int *count)
{
    const struct step_options *o = &l->f->options.step;
    struct collective *c = l->f->collective;
    size_t width = (size_t)(o->batch * o->accumulate) + 1, ranks = (size_t)c->size;
    uint64_t *own = xcalloc(width, sizeof *own);
    uint64_t *all = xcalloc(ranks * width, sizeof *all);
    size_t n = 0;
    own[0] = (uint64_t)r->suspect_count;
    for (int64_t i = 0; i < r->suspect_count; i++)
        own[1 + i] = r->suspects[i];
    collective_gather(c, own, all, width * sizeof *own);
    for (size_t i = 0; i < ranks; i++) {
        size_t of_rank = (size_t)all[i * width];
        memmove(all + n, all + i * width + 1, of_rank * sizeof *all);
        n += of_rank;
    }
    free(own);
    *count = (int)n;
    return all;
}

/* Warns that an update was skipped and names some of its samples; metrics.jsonl names all. */
static void report_bad_step(struct loop *l, const struct step_result *r)
{
    const struct training_state *s = l->s;
    int count;
    uint64_t *suspects = gather_suspects(l, r, &count);
    if (!is_first_rank(l)) {
        free(suspects);
        return;
    }
    char **paths = xcalloc((size_t)count + 1, sizeof *paths), *named = xstrdup("");
    struct error e;
    for (int i = 0; i < count; i++) {
        paths[i] = l->f->functions->describe(l->trainee, suspects[i]);
        if (i < PATHS_IN_WARNING)
            xappend(&named, "%s'%s'", i ? ", " : "", paths[i]);
    }
    char *text = xasprintf(
        "step %" PRId64 ": loss %g, gradient norm %g: not finite, update skipped (%" PRId64
        " in a row, %" PRId64 " in total)",
        s->step - 1, fabs(r->loss), fabs(r->gradient_norm), s->bad_steps_in_a_row, s->bad_steps);
    char more[40] = "";
    if (count > PATHS_IN_WARNING)
        snprintf(more, sizeof more, " and %d more", count - PATHS_IN_WARNING);
    warn("%s; possible causes: %s%s", text, named, more);
    int status =
        metrics_paths(l->metrics, s->step, "bad-step", text, (const char *const *)paths, count, &e);
    metrics_result(l, status, &e);
    for (int i = 0; i < count; i++)
        free(paths[i]);
    free(paths);
    free(suspects);
    free(named);
    free(text);
}

static void account(struct loop *l, const struct step_result *r, double rate, double decay)
{
    struct training_state *s = l->s;
    s->step++;
    s->images += l->effective_batch;
    s->at = order_advance(l->f->order, s->at, 1, l->effective_batch);
    s->learning_rate = rate;
    s->ema_decay = decay;
    s->updates = l->f->parameters->updates;
    const struct loss_scale *scale = &l->f->functions->updater(l->trainee)->loss_scale;
    s->loss_scale = scale->scale;
    s->loss_scale_steps = scale->updates;
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
        note("step %" PRId64 ": gradients overflowed, loss scale reduced to %g", s->step - 1,
             s->loss_scale);
        return;
    }
    s->bad_steps++;
    s->bad_steps_in_a_row++;
    report_bad_step(l, r);
}

/* Tells all ranks of the records that one of them could not read. Fails on all of them if these are
 * too many. */
static int share_unreadable(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    struct unreadable *u = f->functions->unreadable(l->trainee);
    int ranks = f->collective->size;
    int64_t own[1 + TOLD_AT_ONCE] = {0};
    int64_t *all = xcalloc((size_t)ranks, sizeof own), *of_rank = all;
    own[0] = unreadable_take(u, own + 1, TOLD_AT_ONCE);
    collective_gather(f->collective, own, all, sizeof own);
    for (int r = 0; r < ranks; r++, of_rank += 1 + TOLD_AT_ONCE)
        for (int64_t i = 0; i < of_rank[0]; i++)
            unreadable_agree(u, of_rank[1 + i]);
    free(all);
    int64_t count = unreadable_agreed(u), records = f->order->records;
    if (count <= FIT_UNREADABLE_ALWAYS ||
        (double)count <= f->options.max_unreadable * (double)records)
        return 0;
    return error_set(e,
                     "%" PRId64 " of %" PRId64 " images cannot be read, more than "
                     "--max-unreadable %g allows",
                     count, records, f->options.max_unreadable);
}

/* Before a micro-batch, agrees with the other ranks on going on. read: the status of its data. 1: a
 * signal has arrived. */
static int agree_to_go_on(struct loop *l, int read, struct error *e)
{
    const struct fit_loop *f = l->f;
    struct unreadable *u = f->functions->unreadable(l->trainee);
    double sums[] = {*f->stop != 0, read != 0, (double)unreadable_waiting(u)};
    collective_sum(f->collective, sums, 3);
    if (sums[2] > 0 && share_unreadable(l, e) != 0)
        return -1;
    if (sums[1] > 0)
        return fit_agree(f, read, e);
    if (sums[0] > 0)
        watchdog_stopping();
    return sums[0] > 0;
}

/* -1, or 1 if a signal has arrived before the last micro-batch: the weights are unchanged. */
static int run_step(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    const struct fit_options *o = &f->options;
    for (int64_t k = 0; k < o->step.accumulate; k++) {
        int read = *f->stop ? 0 : f->functions->read(l->trainee, l->s->step, k, e);
        int status = agree_to_go_on(l, read, e);
        if (status != 0)
            return status;
        f->functions->micro_batch(l->trainee);
    }
    double rate = learning_rate_at(&o->rate, l->s->step);
    double decay = ema_decay_at(f->parameters->updates + 1, o->ema_decay_at);
    struct step_result r = {0};
    f->functions->update(l->trainee, rate, decay, &r);
    account(l, &r, rate, decay);
    return 0;
}

static int save(struct loop *l, struct error *e)
{
    double begin = seconds_now(), failed = 0;
    l->s->seconds = l->resumed_seconds + begin - l->begin;
    error_set(e, "%s", ""); /* the first rank's says why */
    collective_patient(l->f->collective, true);
    if (is_first_rank(l)) {
        failed = checkpoint_save(l->f->run, l->f->parameters, l->s, l->f->options.keep, e) != 0;
        parameters_serve_end(l->f->parameters);
    } else {
        parameters_serve(l->f->parameters);
    }
    collective_sum(l->f->collective, &failed, 1);
    collective_patient(l->f->collective, false);
    if (failed > 0)
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

/* Makes the step's grid unless it exists, so that one interrupted by a kill is made later. The
 * first rank makes it, of the EMA of all, while the others wait. */
static void demo(struct loop *l)
{
    const struct fit_loop *f = l->f;
    bool wanted = is_first_rank(l) && !*f->stop && !demo_exists(run_folder(f->run), l->s->step);
    collective_broadcast(f->collective, 0, &wanted, sizeof wanted);
    if (!wanted)
        return;
    double begin = seconds_now();
    struct error e;
    parameters_gather_ema(f->parameters);
    if (is_first_rank(l) &&
        f->functions->demo(l->trainee, run_folder(f->run), l->s->step, l->metrics, &e) < 0)
        warn("cannot make the demo grid of step %" PRId64 ": %s", l->s->step, e.text);
    collective_barrier(f->collective);
    l->tally.begin += seconds_now() - begin;
}

static void demo_if_due(struct loop *l)
{
    const struct fit_loop *f = l->f;
    if (!f->demos || !due(l->s->step, f->options.demo_every))
        return;
    collective_patient(f->collective, true);
    demo(l);
    collective_patient(f->collective, false);
}

static void show_progress(struct loop *l)
{
    char detail[96];
    snprintf(detail, sizeof detail, "step %" PRId64 ", epoch %" PRId64 ", loss %.4f", l->s->step,
             l->s->at.epoch, l->s->smoothed_loss);
    progress_update(l->progress, (l->s->step - l->first_step) * l->effective_batch, detail);
}

/* After a checkpoint cannot be written, the run continues: there may be space for the next one. */
static int between_steps(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    struct error failure;
    show_progress(l);
    if (due(l->s->step, o->log_every))
        log_steps(l);
    if (l->f->order->holdout > 0 && due(l->s->step, o->holdout_every) && log_holdout(l, e) != 0)
        return -1;
    if (due(l->s->step, o->checkpoint_every) && save(l, &failure) != 0 && is_first_rank(l))
        warn("%s", failure.text);
    demo_if_due(l);
    return 0;
}

/* 1: a signal arrived, 2: too many bad steps in a row. */
static int run_loop(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    while (fit_loop_steps_left(l->f) != 0) {
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

/* The last metrics and held-out losses. */
static int finish(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    if (l->tally.steps > 0)
        log_steps(l);
    if (l->f->order->holdout == 0 || fit_stop_requested(l->f) || l->s->step == l->first_step ||
        due(l->s->step, o->holdout_every))
        return 0;
    return log_holdout(l, e);
}

/* The last checkpoint, also if the run cannot continue; status: whether it can, with the reason. */
static int finish_saving(struct loop *l, int status, struct error *e)
{
    struct error why = {""};
    if (status != 0 && l->s->step == l->first_step)
        return status;
    if (l->saved_step == l->s->step) {
        if (is_first_rank(l)) /* the process that saved it may not have come to this */
            run_prune(l->f->run, l->s->step, l->f->options.keep);
        return status;
    }
    int saved = save(l, &why);
    if (status == 0)
        return saved != 0 ? error_set(e, "%s", why.text) : 0;
    struct error before = *e;
    if (saved == 0)
        error_set(e, "%s; a checkpoint of step %" PRId64 " has been written", before.text,
                  l->s->step);
    else if (*why.text)
        error_set(e, "%s; %s", before.text, why.text);
    return status;
}

/* The loss scale of mixed precision continues where the checkpoint left it. */
static void restore_loss_scale(struct loop *l, const char *precision)
{
    const struct training_state *s = l->s;
    if (l->f->resumed && strcmp(s->precision, precision) == 0)
        updater_set_loss_scale(l->f->functions->updater(l->trainee),
                               (struct loss_scale){s->loss_scale, s->loss_scale_steps});
}

static int open_metrics(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    if (!is_first_rank(l))
        return 0;
    const char *folder = run_folder(f->run);
    if (metrics_open(&l->metrics, folder, f->resumed ? l->s->step : -1, e) != 0)
        return error_prefix(e, "cannot write the metrics of '%s'", folder);
    return 0;
}

static int begin(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    const char *precision = device_precision(f->parameters->device);
    restore_loss_scale(l, precision);
    snprintf(l->s->precision, sizeof l->s->precision, "%s", precision);
    if (open_metrics(l, e) != 0)
        return -1;
    tally_reset(l);
    l->begin = seconds_now();
    l->resumed_seconds = l->s->seconds;
    l->first_step = l->s->step;
    l->saved_step = f->saved ? l->s->step : -1;
    if (!f->resumed && f->order->holdout > 0 && log_holdout(l, e) != 0)
        return -1;
    demo_if_due(l);
    int64_t left = fit_loop_steps_left(f);
    l->progress = progress_start("training", "images", left < 0 ? -1 : left * l->effective_batch);
    tally_reset(l);
    return 0;
}

/* With the trainee open. */
static int run(struct loop *l, enum fit_end *end, struct error *e)
{
    int status = begin(l, e);
    if (status != 0)
        return -1;
    status = run_loop(l, e);
    progress_finish(l->progress);
    l->progress = NULL;
    *end = status == 1 ? FIT_STOPPED : status == 2 ? FIT_BAD : FIT_COMPLETE;
    if (status == 2) {
        error_set(e, "%" PRId64 " non-finite steps in a row, the last one step %" PRId64,
                  l->s->bad_steps_in_a_row, l->s->step - 1);
        return 0;
    }
    if (status >= 0)
        status = finish(l, e);
    return finish_saving(l, status < 0 ? -1 : 0, e);
}

int fit_loop_run(const struct fit_loop *f, enum fit_end *end, struct error *e)
{
    struct loop l = {.f = f, .s = f->state, .effective_batch = effective_batch(f)};
    l.trainee = xcalloc(1, f->functions->size);
    int status = f->functions->open(l.trainee, f, e);
    if (status == 0)
        status = run(&l, end, e);
    metrics_close(l.metrics);
    f->functions->close(l.trainee);
    free(l.trainee);
    return status;
}
