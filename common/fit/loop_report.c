#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/fit/loop_internal.h"
#include "common/run/best.h"

#define PATHS_IN_WARNING 3

void fit_number(struct fit_numbers *n, const char *name, double value)
{
    CHECK(n->count < FIT_NUMBERS_MAX);
    n->items[n->count++] = (struct metric){name, value};
}

/* If metrics cannot be written, say because the disk is full, the run continues with a warning. */
static void metrics_result(struct loop *l, int status, const struct error *e)
{
    if (status != 0 && !l->metrics_failed)
        warn("cannot write the run's metrics: %s", e->text);
    l->metrics_failed = status != 0;
}

void loop_reset_tally(struct loop *l)
{
    double waited = l->f->functions->waited(l->trainee);
    l->tally = (struct tally){.begin = seconds_now(), .waited = waited};
}

void loop_add_to_tally(struct loop *l, const struct step_result *r)
{
    struct tally *t = &l->tally;
    t->steps++;
    if (!r->applied)
        return;
    t->applied++;
    t->loss += r->loss;
    t->gradient_norm += r->gradient_norm;
}

void loop_log_steps(struct loop *l)
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
    if (loop_is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, s->step, n.items, n.count, &e), &e);
    loop_reset_tally(l);
}

int loop_log_holdout(struct loop *l, struct error *e)
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
    if (loop_is_first_rank(l))
        metrics_result(l, metrics_scalars(l->metrics, l->s->step, n.items, n.count, &written),
                       &written);
    return 0;
}

/* "cosine 0.71230, frechet 0.02312, ..." */
static void print_scores(char *text, size_t size, const struct fit_numbers *n)
{
    *text = 0;
    for (int i = 0; i < n->count; i++) {
        const char *slash = strrchr(n->items[i].name, '/');
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s %.5f", i ? ", " : "",
                 slash ? slash + 1 : n->items[i].name, n->items[i].value);
    }
}

void loop_score(struct loop *l)
{
    const struct fit_loop *f = l->f;
    struct fit_numbers n = {0};
    struct error e;
    char text[256], duration[32];
    int64_t step = l->s->step, best = -1;
    double begin = seconds_now();
    int status = f->functions->score(l->trainee, &n, &e);
    if (status != 0) {
        if (status < 0)
            warn("cannot score the checkpoint of step %" PRId64 ": %s", step, e.text);
        return;
    }
    metrics_result(l, metrics_scalars(l->metrics, step, n.items, n.count, &e), &e);
    if (run_keep_score(f->run, step, n.items, n.count, &e) != 0 ||
        run_choose_best(f->run, step, f->options.keep, &best, &e) != 0)
        warn("cannot keep the scores of step %" PRId64 ": %s", step, e.text);
    print_scores(text, sizeof text, &n);
    inform("step %" PRId64 ": %s, in %s%s", step, text,
           format_duration(duration, seconds_now() - begin),
           best == step ? "; the best so far" : "");
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

void loop_report_bad_step(struct loop *l, const struct step_result *r)
{
    const struct training_state *s = l->s;
    int count;
    uint64_t *suspects = gather_suspects(l, r, &count);
    if (!loop_is_first_rank(l)) {
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

int loop_open_metrics(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    if (!loop_is_first_rank(l))
        return 0;
    const char *folder = run_folder(f->run);
    if (metrics_open(&l->metrics, folder, f->resumed ? l->s->step : -1, e) != 0)
        return error_prefix(e, "cannot write the metrics of '%s'", folder);
    return 0;
}
