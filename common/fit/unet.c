#include "common/fit/unet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/data/embed_neighbours.h"

#define QUARTILES 4

/* A U-Net in training on shards: the trainee of common/fit/loop.h. */
struct unet_trainee {
    const struct fit *f;
    struct unet_step *step;
    struct embed_neighbours *neighbours; /* NULL: embeds are not mixed */
    struct latent_reader *reader;
    struct holdout_batch holdout;
    uint64_t *suspects; /* [batch * accumulate] */
    /* Of the steps since they were last logged. */
    double quartile_loss[QUARTILES], quartile_count[QUARTILES];
};

static struct fit_loop_options loop_options(const struct fit_options *o)
{
    return (struct fit_loop_options){
        .batch = o->step.batch,
        .accumulate = o->step.accumulate,
        .rate = o->rate,
        .ema_decay_at = o->ema_decay_at,
        .steps = o->steps,
        .epochs = o->epochs,
        .checkpoint_every = o->checkpoint_every,
        .keep = o->keep,
        .log_every = o->log_every,
        .holdout_every = o->holdout_every,
        .demo_every = o->demo_every,
        .max_bad_steps = o->max_bad_steps,
        .resumed = o->resumed,
        .saved = o->saved,
    };
}

static struct fit_loop loop_of(const struct fit *f)
{
    return (struct fit_loop){
        .options = loop_options(&f->options),
        .order = latent_set_order(f->data),
        .parameters = f->parameters,
        .collective = f->collective,
        .run = f->run,
        .state = f->state,
        .stop = f->stop,
    };
}

int64_t fit_steps_left(const struct fit_options *o, const struct latent_set *d,
                       const struct training_state *s, int64_t effective_batch)
{
    struct fit_loop_options options = loop_options(o);
    return fit_loop_steps_left(&options, latent_set_order(d), s, effective_batch);
}

/* The reference's rule of thumb. */
static void warn_of_overfitting(const struct fit *f)
{
    const struct shard_info *info = latent_set_info(f->data);
    int64_t images = latent_set_training_count(f->data);
    int64_t numbers = (int64_t)shard_latent_count(info) * images;
    char parameters[32], floats[32], count[32];
    if (3 * f->parameters->parameter_count <= 2 * numbers)
        return;
    warn("the network is likely to learn the data by heart: its %s parameters are more than two "
         "thirds of the data's %s numbers (%d*%d*%d*%s images)",
         format_count(parameters, f->parameters->parameter_count), format_count(floats, numbers),
         info->latent_height, info->latent_width, info->latent_channels,
         format_count(count, images));
}

void fit_announce(const struct fit *f, int64_t memory_bytes)
{
    struct fit_loop loop = loop_of(f);
    fit_loop_announce(&loop, memory_bytes);
    warn_of_overfitting(f);
}

static int micro_batch(void *trainee, int64_t step, int64_t k, struct error *e)
{
    struct unet_trainee *u = trainee;
    const struct latent_batch *b;
    if (latent_reader_next(u->reader, &b, e) != 0)
        return -1;
    CHECK(b->step == step && b->micro_batch == k);
    unet_step_micro_batch(u->step, step, &b->data);
    return 0;
}

static void tally_add(struct unet_trainee *u, const struct unet_step_result *r)
{
    for (int64_t i = 0; r->applied && i < r->count; i++) {
        int quartile = (int)(r->samples[i].t * QUARTILES);
        quartile = quartile < QUARTILES ? quartile : QUARTILES - 1;
        u->quartile_loss[quartile] += r->samples[i].loss;
        u->quartile_count[quartile]++;
    }
}

static void update(void *trainee, double learning_rate, double ema_decay, struct fit_outcome *out)
{
    struct unet_trainee *u = trainee;
    struct unet_step_result r;
    unet_step_update(u->step, learning_rate, ema_decay, &r);
    tally_add(u, &r);
    *out = (struct fit_outcome){
        .loss = r.loss,
        .gradient_norm = r.gradient_norm,
        .applied = r.applied,
        .rescaled = r.rescaled,
        .loss_scale = unet_step_loss_scale(u->step),
        .suspects = u->suspects,
    };
    for (int64_t i = 0; i < r.count; i++)
        if (r.samples[i].suspect)
            u->suspects[out->suspect_count++] = r.samples[i].sample;
}

static void numbers(void *trainee, struct fit_numbers *n)
{
    static const char *const names[QUARTILES] = {"loss/t-quartile-1", "loss/t-quartile-2",
                                                 "loss/t-quartile-3", "loss/t-quartile-4"};
    struct unet_trainee *u = trainee;
    double sums[2 * QUARTILES];
    memcpy(sums, u->quartile_loss, sizeof u->quartile_loss);
    memcpy(sums + QUARTILES, u->quartile_count, sizeof u->quartile_count);
    collective_allreduce_host(u->f->collective, sums, 2 * QUARTILES);
    for (int i = 0; i < QUARTILES; i++) {
        if (sums[QUARTILES + i] > 0)
            fit_number(n, names[i], sums[i] / sums[QUARTILES + i]);
        u->quartile_loss[i] = u->quartile_count[i] = 0;
    }
}

/* Mean loss of all held-out records. 1: a signal came in between. */
static int mean_loss(struct unet_trainee *u, enum parameter_array which, double *mean,
                     struct error *e)
{
    const struct fit *f = u->f;
    int64_t count = latent_set_holdout_count(f->data), batch = f->options.step.batch;
    struct unet_step_sample *samples = xcalloc((size_t)batch, sizeof *samples);
    double sum = 0;
    int status = 0;
    for (int64_t first = 0; first < count && status == 0; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        status = fit_stop_wanted(f->stop, f->collective);
        if (status == 0)
            status = holdout_batch_read(&u->holdout, f->data, first, n, e);
        if (status != 0)
            break;
        unet_step_evaluate(u->step, which, &u->holdout.data, first, samples);
        for (int64_t i = 0; i < n; i++)
            sum += samples[i].loss;
    }
    free(samples);
    *mean = sum / (double)count;
    return status;
}

static int evaluate(void *trainee, struct fit_numbers *n, struct error *e)
{
    struct unet_trainee *u = trainee;
    double ema, raw;
    int status = mean_loss(u, ARRAY_EMA, &ema, e);
    if (status == 0)
        status = mean_loss(u, ARRAY_WEIGHTS, &raw, e);
    if (status != 0)
        return status;
    fit_number(n, "holdout-loss/ema", ema);
    fit_number(n, "holdout-loss/raw", raw);
    snprintf(n->text, sizeof n->text, "held-out loss %.5f, of the weights without averaging %.5f",
             ema, raw);
    return 0;
}

static double waited(void *trainee)
{
    struct unet_trainee *u = trainee;
    return latent_reader_waited(u->reader);
}

static char *describe(void *trainee, uint64_t sample)
{
    struct unet_trainee *u = trainee;
    struct error e;
    char *path;
    if (latent_set_path(u->f->data, (int64_t)sample, &path, &e) != 0)
        path = latent_set_describe(u->f->data, (int64_t)sample);
    return path;
}

static int make_demo(void *trainee, const char *run, int64_t step, struct metrics *m,
                     struct error *e)
{
    struct unet_trainee *u = trainee;
    return demo_make(u->f->demo, run, step, m, u->f->stop, e);
}

static int open_trainee(struct unet_trainee *u, struct error *e)
{
    const struct fit *f = u->f;
    const struct unet_step_options *o = &f->options.step;
    holdout_batch_init(&u->holdout);
    if (unet_step_open(&u->step, f->parameters, f->collective, o, e) != 0)
        return -1;
    const char *precision = device_precision(f->parameters->device);
    if (f->options.resumed && strcmp(f->state->precision, precision) == 0)
        unet_step_set_loss_scale(
            u->step, (struct loss_scale){f->state->loss_scale, f->state->loss_scale_steps});
    u->suspects = xcalloc((size_t)(o->batch * o->accumulate), sizeof *u->suspects);
    if (f->options.embed_neighbours > 0 &&
        embed_neighbours_open(&u->neighbours, f->data, f->options.embed_neighbours, o->seed, e) !=
            0)
        return -1;
    struct batch_reader_options reader = {
        .seed = o->seed,
        .batch = o->batch,
        .accumulate = o->accumulate,
        .rank = f->collective->rank,
        .ranks = f->collective->size,
        .first_step = f->state->step,
        .start = f->state->at,
    };
    return latent_reader_open(&u->reader, f->data, u->neighbours, &reader, e);
}

static void close_trainee(struct unet_trainee *u)
{
    latent_reader_close(u->reader);
    embed_neighbours_close(u->neighbours);
    unet_step_close(u->step);
    holdout_batch_release(&u->holdout);
    free(u->suspects);
}

int fit_run(const struct fit *f, enum fit_end *end, struct error *e)
{
    struct trainee_functions functions = {
        .micro_batch = micro_batch,
        .update = update,
        .evaluate = evaluate,
        .numbers = numbers,
        .waited = waited,
        .describe = describe,
        .demo = f->demo ? make_demo : NULL,
    };
    struct unet_trainee u = {.f = f};
    struct fit_loop loop = loop_of(f);
    loop.functions = &functions;
    loop.trainee = &u;
    int status = open_trainee(&u, e);
    if (status == 0)
        status = fit_loop_run(&loop, end, e);
    close_trainee(&u);
    return status;
}
