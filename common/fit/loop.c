#include "common/fit/loop.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/fit/demo.h"
#include "common/fit/loop_internal.h"
#include "common/run/best.h"

#define SMOOTHING 0.02 /* of the displayed loss: about the mean of 50 steps */

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
    int64_t effective = effective_batch(f), per_epoch = order_steps_per_epoch(f->order, effective);
    char parameters[32], images[32], held_out[64] = "", steps[32], memory[32], product[80] = "";
    if (effective != o->batch)
        snprintf(product, sizeof product, " (%" PRId64 " x %" PRId64 " x %d)", o->batch,
                 o->accumulate, ranks);
    if (f->order->holdout > 0)
        snprintf(held_out, sizeof held_out, " and %s held out",
                 format_count(images, f->order->holdout));
    inform("effective batch %" PRId64 "%s, learning rate %.9g, %s parameters, %s image%s%s, %s "
           "step%s per epoch, %s of memory",
           effective, product, f->options.rate.base,
           format_count(parameters, f->parameters->parameter_count),
           format_count(images, order_training_count(f->order)),
           plural(order_training_count(f->order)), held_out, format_count(steps, per_epoch),
           plural(per_epoch), format_bytes(memory, (double)memory_bytes));
    if (fit_loop_steps_left(f) < 0)
        inform("without --steps or --epochs, training has no end: stop it with Ctrl-C or SIGTERM");
    if (f->functions->announce)
        f->functions->announce(f);
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
    loop_add_to_tally(l, r);
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
    loop_report_bad_step(l, r);
}

/* -1, or 1 if a signal has arrived before the last micro-batch: the weights are unchanged. */
static int run_step(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    const struct fit_options *o = &f->options;
    for (int64_t k = 0; k < o->step.accumulate; k++) {
        int read = *f->stop ? 0 : f->functions->read(l->trainee, l->s->step, k, e);
        int status = loop_agree(l, read, e);
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
    if (loop_is_first_rank(l)) {
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
    bool wanted =
        loop_is_first_rank(l) && !*f->stop && !demo_exists(run_folder(f->run), l->s->step);
    collective_broadcast(f->collective, 0, &wanted, sizeof wanted);
    if (!wanted)
        return;
    double begin = seconds_now();
    struct error e;
    parameters_gather_ema(f->parameters);
    if (loop_is_first_rank(l) &&
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

/* Whether the checkpoint of this step is to be scored; at the end of a run, the last one is, too.
 */
static bool score_is_due(const struct loop *l)
{
    const struct fit_options *o = &l->f->options;
    return l->f->scores && due(l->s->step, o->score_every ? o->score_every : o->checkpoint_every);
}

/* Scores the step's checkpoint unless it has been: one that a kill interrupted is scored later. */
static void score(struct loop *l)
{
    const struct fit_loop *f = l->f;
    bool wanted = loop_is_first_rank(l) && !*f->stop && l->saved_step == l->s->step;
    if (loop_is_first_rank(l) && l->saved_step == l->s->step)
        wanted = wanted && !run_has_score(f->run, l->s->step);
    collective_patient(f->collective, true);
    collective_broadcast(f->collective, 0, &wanted, sizeof wanted);
    double begin = seconds_now();
    if (wanted) {
        parameters_gather_ema(f->parameters);
        if (loop_is_first_rank(l))
            loop_score(l);
        collective_barrier(f->collective);
    }
    collective_patient(f->collective, false);
    l->tally.begin += seconds_now() - begin;
}

static void show_progress(struct loop *l)
{
    char detail[96], of[32] = "";
    if (l->last_step >= 0)
        snprintf(of, sizeof of, " of %" PRId64, l->last_step);
    snprintf(detail, sizeof detail, "loss %.4f, step %" PRId64 "%s, epoch %" PRId64,
             l->s->smoothed_loss, l->s->step, of, l->s->at.epoch);
    progress_update(l->progress, (l->s->step - l->first_step) * l->effective_batch, detail);
}

/* After a checkpoint cannot be written, the run continues: there may be space for the next one. */
static int between_steps(struct loop *l, struct error *e)
{
    const struct fit_options *o = &l->f->options;
    struct error failure;
    show_progress(l);
    if (due(l->s->step, o->log_every))
        loop_log_steps(l);
    if (l->f->order->holdout > 0 && due(l->s->step, o->holdout_every) &&
        loop_log_holdout(l, e) != 0)
        return -1;
    bool checkpoint = due(l->s->step, o->checkpoint_every) || score_is_due(l);
    if (checkpoint && save(l, &failure) != 0 && loop_is_first_rank(l))
        warn("%s", failure.text);
    if (score_is_due(l))
        score(l);
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
        loop_log_steps(l);
    if (l->f->order->holdout == 0 || fit_stop_requested(l->f) || l->s->step == l->first_step ||
        due(l->s->step, o->holdout_every))
        return 0;
    return loop_log_holdout(l, e);
}

/* The last checkpoint, also if the run cannot continue; status: whether it can, with the reason. */
static int finish_saving(struct loop *l, int status, struct error *e)
{
    struct error why = {""};
    if (status != 0 && l->s->step == l->first_step)
        return status;
    if (l->saved_step == l->s->step) {
        if (loop_is_first_rank(l)) /* the process that saved it may not have come to this */
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

static int begin(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    const char *precision = device_precision(f->parameters->device);
    restore_loss_scale(l, precision);
    snprintf(l->s->precision, sizeof l->s->precision, "%s", precision);
    if (loop_open_metrics(l, e) != 0)
        return -1;
    loop_reset_tally(l);
    l->begin = seconds_now();
    l->resumed_seconds = l->s->seconds;
    l->first_step = l->s->step;
    l->saved_step = f->saved ? l->s->step : -1;
    if (!f->resumed && f->order->holdout > 0 && loop_log_holdout(l, e) != 0)
        return -1;
    if (score_is_due(l) && l->s->step > 0)
        score(l);
    demo_if_due(l);
    int64_t left = fit_loop_steps_left(f);
    l->last_step = left < 0 ? -1 : l->first_step + left;
    l->progress = progress_start(NULL, "images", left < 0 ? -1 : left * l->effective_batch);
    loop_reset_tally(l);
    return 0;
}

/* With the trainee open. What fails, fails on all ranks. */
static int run_to_end(struct loop *l, enum fit_end *end, struct error *e)
{
    int status = begin(l, e);
    if (status != 0)
        return -1;
    status = run_loop(l, e);
    progress_finish(l->progress);
    l->progress = NULL;
    *end = status == 1 ? FIT_STOPPED : status == 2 ? FIT_BAD : FIT_COMPLETE;
    if (status == 2) {
        error_set(e, "%" PRId64 " non-finite step%s in a row, the last one step %" PRId64,
                  l->s->bad_steps_in_a_row, plural(l->s->bad_steps_in_a_row), l->s->step - 1);
        return 0;
    }
    if (status >= 0)
        status = finish(l, e);
    status = finish_saving(l, status < 0 ? -1 : 0, e);
    if (status == 0 && *end == FIT_COMPLETE && l->f->scores && l->s->step > 0)
        score(l);
    return status;
}

static int run(struct loop *l, enum fit_end *end, struct error *e)
{
    int status = run_to_end(l, end, e);
    if (status == 0 || l->f->collective->size == 1)
        return status;
    if (loop_is_first_rank(l) && *e->text)
        warn(FIT_CANNOT_CONTINUE, e->text);
    collective_barrier(l->f->collective); /* no other rank ends before it is said */
    return error_set(e, "%s", "");
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
