#include "common/fit/unet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/data/embed_neighbours.h"
#include "common/nets/unet.h"

#define QUARTILES 4

/* A U-Net in training on shards. */
struct trainee {
    const struct fit_unet *f;
    struct unet_step *step;
    struct embed_neighbours *neighbours; /* NULL: embeds are not averaged */
    struct latent_reader *reader;
    struct holdout_batch holdout;
    /* Of the steps since they were last logged. */
    double quartile_loss[QUARTILES], quartile_count[QUARTILES];
};

int fit_unet_check(const struct parameters *p, const struct shard_info *store, struct error *e)
{
    struct named_weights names;
    struct unet *unet = NULL;
    parameters_names(&names, p, ARRAY_WEIGHTS);
    int status = unet_load(&unet, &names, p->device, e);
    if (status == 0) {
        const struct unet_sizes *u = unet_sizes(unet);
        if (u->latent_channels != store->latent_channels || u->embed_width != store->embed_size)
            status = error_set(
                e,
                "the U-Net needs latents of %" PRId64 " channels and embeddings of size %" PRId64
                ", the data have %d and %d",
                u->latent_channels, u->embed_width, store->latent_channels, store->embed_size);
        else if (store->latent_height % u->side_multiple || store->latent_width % u->side_multiple)
            status = error_set(e, "latents of %dx%d: the U-Net needs multiples of %d",
                               store->latent_height, store->latent_width, u->side_multiple);
    }
    unet_free(unet);
    names_release(&names);
    return status;
}

/* The reference's rule of thumb. */
static void warn_of_overfitting(const struct fit_loop *loop)
{
    const struct fit_unet *f = (const struct fit_unet *)loop;
    const struct shard_info *info = latent_set_info(f->data);
    int64_t images = latent_set_training_count(f->data);
    int64_t numbers = (int64_t)shard_latent_count(info) * images;
    char parameters[32], floats[32], count[32];
    if (3 * loop->parameters->parameter_count <= 2 * numbers)
        return;
    warn("the network is likely to overfit: its %s parameters exceed two thirds of the %s values "
         "in the data (%d*%d*%d*%s images)",
         format_count(parameters, loop->parameters->parameter_count), format_count(floats, numbers),
         info->latent_height, info->latent_width, info->latent_channels,
         format_count(count, images));
}

static int micro_batch(void *trainee, int64_t step, int64_t k, struct error *e)
{
    struct trainee *u = trainee;
    const struct latent_batch *b;
    if (latent_reader_next(u->reader, &b, e) != 0)
        return -1;
    CHECK(b->step == step && b->micro_batch == k);
    unet_step_micro_batch(u->step, step, &b->data);
    return 0;
}

static void tally_add(struct trainee *u)
{
    const struct step_options *o = &u->f->loop.options.step;
    const struct unet_step_sample *samples = unet_step_samples(u->step);
    for (int64_t i = 0; i < o->batch * o->accumulate; i++) {
        int quartile = (int)(samples[i].t * QUARTILES);
        quartile = quartile < QUARTILES ? quartile : QUARTILES - 1;
        u->quartile_loss[quartile] += samples[i].loss;
        u->quartile_count[quartile]++;
    }
}

static void update(void *trainee, double learning_rate, double ema_decay, struct step_result *r)
{
    struct trainee *u = trainee;
    unet_step_update(u->step, learning_rate, ema_decay, r);
    if (r->applied)
        tally_add(u);
}

static struct updater *updater(void *trainee)
{
    struct trainee *u = trainee;
    return unet_step_updater(u->step);
}

static void numbers(void *trainee, struct fit_numbers *n)
{
    static const char *const names[QUARTILES] = {"loss/t-quartile-1", "loss/t-quartile-2",
                                                 "loss/t-quartile-3", "loss/t-quartile-4"};
    struct trainee *u = trainee;
    double sums[2 * QUARTILES];
    memcpy(sums, u->quartile_loss, sizeof u->quartile_loss);
    memcpy(sums + QUARTILES, u->quartile_count, sizeof u->quartile_count);
    collective_allreduce_host(u->f->loop.collective, sums, 2 * QUARTILES);
    for (int i = 0; i < QUARTILES; i++) {
        if (sums[QUARTILES + i] > 0)
            fit_number(n, names[i], sums[i] / sums[QUARTILES + i]);
        u->quartile_loss[i] = u->quartile_count[i] = 0;
    }
}

/* Mean loss of all held-out records. 1: a signal came in between. */
static int mean_loss(struct trainee *u, enum parameter_array which, double *mean, struct error *e)
{
    const struct fit_unet *f = u->f;
    int64_t count = latent_set_holdout_count(f->data), batch = f->loop.options.step.batch;
    struct unet_step_sample *samples = xcalloc((size_t)batch, sizeof *samples);
    double sum = 0;
    int status = 0;
    for (int64_t first = 0; first < count && status == 0; first += batch) {
        int64_t n = count - first < batch ? count - first : batch;
        status = fit_stop_requested(&f->loop);
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
    struct trainee *u = trainee;
    double ema, raw;
    int status = mean_loss(u, ARRAY_EMA, &ema, e);
    if (status == 0)
        status = mean_loss(u, ARRAY_WEIGHTS, &raw, e);
    if (status != 0)
        return status;
    fit_number(n, "holdout-loss/ema", ema);
    fit_number(n, "holdout-loss/raw", raw);
    snprintf(n->text, sizeof n->text, "held-out loss %.5f, with raw weights %.5f", ema, raw);
    return 0;
}

static double waited(void *trainee)
{
    struct trainee *u = trainee;
    return latent_reader_waited(u->reader);
}

static char *describe(void *trainee, uint64_t sample)
{
    struct trainee *u = trainee;
    struct error e;
    char *path;
    if (latent_set_path(u->f->data, (int64_t)sample, &path, &e) != 0)
        path = latent_set_describe(u->f->data, (int64_t)sample);
    return path;
}

static int make_demo(void *trainee, const char *run, int64_t step, struct metrics *m,
                     struct error *e)
{
    struct trainee *u = trainee;
    return demo_make(u->f->demo, run, step, m, u->f->loop.stop, e);
}

static void close_trainee(void *trainee)
{
    struct trainee *u = trainee;
    latent_reader_close(u->reader);
    embed_neighbours_close(u->neighbours);
    unet_step_close(u->step);
    holdout_batch_release(&u->holdout);
    free(u);
}

static int open_parts(struct trainee *u, struct error *e)
{
    const struct fit_unet *f = u->f;
    const struct fit_loop *l = &f->loop;
    const struct step_options *o = &l->options.step;
    struct batch_reader_options reader = fit_loop_reader_options(l);
    if (unet_step_open(&u->step, l->parameters, l->collective, o, &f->step, e) != 0)
        return -1;
    if (f->embed_neighbours > 0 &&
        embed_neighbours_open(&u->neighbours, f->data, f->embed_neighbours, o->seed, e) != 0)
        return -1;
    return latent_reader_open(&u->reader, f->data, u->neighbours, &reader, e);
}

static int open_trainee(const struct fit_loop *f, void **trainee, struct error *e)
{
    struct trainee *u = xcalloc(1, sizeof *u);
    u->f = (const struct fit_unet *)f;
    holdout_batch_init(&u->holdout);
    *trainee = u;
    if (open_parts(u, e) == 0)
        return 0;
    close_trainee(u);
    return -1;
}

static int64_t memory(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like)
{
    const struct fit_unet *u = (const struct fit_unet *)f;
    const struct shard_info *info = latent_set_info(u->data);
    struct architecture architecture = parameters_architecture(f->parameters);
    int64_t bytes =
        unet_step_memory(&architecture, o, &u->step, like, info->latent_height, info->latent_width);
    architecture_release(&architecture);
    return bytes;
}

const struct trainee_functions fit_unet_functions = {
    .open = open_trainee,
    .close = close_trainee,
    .updater = updater,
    .micro_batch = micro_batch,
    .update = update,
    .evaluate = evaluate,
    .numbers = numbers,
    .waited = waited,
    .describe = describe,
    .demo = make_demo,
    .announce = warn_of_overfitting,
    .memory = memory,
    .can_recompute = true,
};
