#include "common/fit/unet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/data/embed_neighbours.h"
#include "common/nets/unet.h"
#include "common/train/network_views.h"

#define QUARTILES 4

struct trainee {
    const struct fit_unet *f;
    struct unet_step *step;
    struct embed_neighbours *neighbours; /* NULL: embeddings are not averaged */
    struct latent_reader *reader;
    const struct latent_batch *batch; /* read last */
    struct holdout_batch holdout;
    /* Sums over the samples since metrics were last logged, by quarter of the timestep range. */
    double quartile_loss[QUARTILES], quartile_count[QUARTILES];
};

int fit_unet_check(const struct parameters *p, const struct shard_info *store, struct error *e)
{
    struct network_view unet = {0};
    int status = network_view_open(&unet, &unet_network, p, ARRAY_WEIGHTS, e);
    if (status == 0) {
        const struct unet_sizes *u = unet_sizes(unet.network);
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
    network_view_release(&unet);
    return status;
}

/* The reference's rule of thumb; once per run. */
static void warn_of_overfitting(const struct fit_loop *loop)
{
    const struct fit_unet *f = (const struct fit_unet *)loop;
    const struct shard_info *info = latent_set_info(f->data);
    int64_t images = latent_set_training_count(f->data);
    int64_t values = (int64_t)shard_latent_count(info) * images;
    char parameters[32], total[32], count[32];
    bool told = loop->resumed && loop->saved;
    if (told || 3 * loop->parameters->parameter_count <= 2 * values)
        return;
    warn("the network is likely to overfit: its %s parameters exceed two thirds of the %s values "
         "in the data (%d*%d*%d*%s images)",
         format_count(parameters, loop->parameters->parameter_count), format_count(total, values),
         info->latent_height, info->latent_width, info->latent_channels,
         format_count(count, images));
}

static int read_batch(void *trainee, int64_t step, int64_t k, struct error *e)
{
    struct trainee *t = trainee;
    if (latent_reader_next(t->reader, &t->batch, e) != 0)
        return -1;
    CHECK(t->batch->step == step && t->batch->micro_batch == k);
    return 0;
}

static void micro_batch(void *trainee)
{
    struct trainee *t = trainee;
    unet_step_micro_batch(t->step, t->batch->step, &t->batch->data);
}

static void tally_add(struct trainee *t)
{
    const struct step_options *o = &t->f->loop.options.step;
    const struct unet_step_sample *samples = unet_step_samples(t->step);
    for (int64_t i = 0; i < o->batch * o->accumulate; i++) {
        int quartile = (int)(samples[i].t * QUARTILES);
        quartile = quartile < QUARTILES ? quartile : QUARTILES - 1;
        t->quartile_loss[quartile] += samples[i].loss;
        t->quartile_count[quartile]++;
    }
}

static void update(void *trainee, double learning_rate, double ema_decay, struct step_result *r)
{
    struct trainee *t = trainee;
    unet_step_update(t->step, learning_rate, ema_decay, r);
    if (r->applied)
        tally_add(t);
}

static struct updater *updater(void *trainee)
{
    struct trainee *t = trainee;
    return unet_step_updater(t->step);
}

static void numbers(void *trainee, struct fit_numbers *n)
{
    static const char *const names[QUARTILES] = {"loss/t-quartile-1", "loss/t-quartile-2",
                                                 "loss/t-quartile-3", "loss/t-quartile-4"};
    struct trainee *t = trainee;
    double sums[2 * QUARTILES];
    memcpy(sums, t->quartile_loss, sizeof t->quartile_loss);
    memcpy(sums + QUARTILES, t->quartile_count, sizeof t->quartile_count);
    collective_sum(t->f->loop.collective, sums, 2 * QUARTILES);
    for (int i = 0; i < QUARTILES; i++) {
        if (sums[QUARTILES + i] > 0)
            fit_number(n, names[i], sums[i] / sums[QUARTILES + i]);
        t->quartile_loss[i] = t->quartile_count[i] = 0;
    }
}

/* Of a held-out record; zeros if it is damaged. */
struct holdout_loss {
    double loss, records;
};

/* Losses of up to a batch of held-out records from `first` on. */
static int holdout_losses(struct trainee *t, enum parameter_array which, int64_t first,
                          struct holdout_loss *losses, struct error *e)
{
    int64_t batch = t->f->loop.options.step.batch;
    int64_t left = latent_set_holdout_count(t->f->data) - first, n = left < batch ? left : batch;
    memset(losses, 0, (size_t)batch * sizeof *losses);
    if (n <= 0)
        return 0;
    if (holdout_batch_read(&t->holdout, t->f->data, first, n, e) != 0)
        return -1;
    struct unet_step_sample *samples = xcalloc((size_t)batch, sizeof *samples);
    unet_step_evaluate(t->step, which, &t->holdout.data, first, samples);
    for (int64_t i = 0; i < n; i++)
        if (!t->holdout.damaged[i])
            losses[i] = (struct holdout_loss){samples[i].loss, 1};
    free(samples);
    return 0;
}

/* The mean loss of all held-out records, of which each rank computes every size-th batch. 1:
 * fit_stop_requested. */
static int mean_loss(struct trainee *t, enum parameter_array which, double *mean, struct error *e)
{
    const struct fit_loop *l = &t->f->loop;
    int64_t count = latent_set_holdout_count(t->f->data), batch = l->options.step.batch;
    int64_t together = batch * l->collective->size;
    struct holdout_loss *own = xcalloc((size_t)batch, sizeof *own), sum = {0};
    struct holdout_loss *all = xcalloc((size_t)together, sizeof *all);
    int status = 0;
    for (int64_t first = 0; first < count && status == 0; first += together) {
        status = fit_stop_requested(l);
        if (status != 0)
            break;
        int64_t at = first + l->collective->rank * batch;
        status = fit_agree(l, holdout_losses(t, which, at, own, e), e);
        if (status != 0)
            break;
        collective_gather(l->collective, own, all, (size_t)batch * sizeof *own);
        for (int64_t i = 0; i < together; i++) {
            sum.loss += all[i].loss;
            sum.records += all[i].records;
        }
    }
    free(own);
    free(all);
    if (status == 0 && sum.records == 0)
        return error_set(e, "none of the held-out images can be read");
    *mean = sum.loss / sum.records;
    return status;
}

static int evaluate(void *trainee, struct fit_numbers *n, struct error *e)
{
    struct trainee *t = trainee;
    double ema, raw;
    int status = mean_loss(t, ARRAY_EMA, &ema, e);
    if (status == 0)
        status = mean_loss(t, ARRAY_WEIGHTS, &raw, e);
    if (status != 0)
        return status;
    fit_number(n, "holdout-loss/ema", ema);
    fit_number(n, "holdout-loss/raw", raw);
    snprintf(n->text, sizeof n->text, "held-out loss %.5f, with raw weights %.5f", ema, raw);
    return 0;
}

static double waited(void *trainee)
{
    struct trainee *t = trainee;
    return latent_reader_waited(t->reader);
}

static struct unreadable *unreadable(void *trainee)
{
    struct trainee *t = trainee;
    return latent_set_unreadable(t->f->data);
}

static char *describe(void *trainee, uint64_t sample)
{
    struct trainee *t = trainee;
    struct error e;
    char *path;
    if (latent_set_path(t->f->data, (int64_t)sample, &path, &e) != 0)
        path = latent_set_describe(t->f->data, (int64_t)sample);
    return path;
}

static int demo(void *trainee, const char *run, int64_t step, struct metrics *m, struct error *e)
{
    struct trainee *t = trainee;
    return demo_make(t->f->demo, run, step, m, t->f->loop.stop, e);
}

static int score(void *trainee, struct fit_numbers *n, struct error *e)
{
    struct trainee *t = trainee;
    return score_run(t->f->score, n, t->f->loop.stop, e);
}

static void close_trainee(void *trainee)
{
    struct trainee *t = trainee;
    latent_reader_close(t->reader);
    embed_neighbours_close(t->neighbours);
    unet_step_close(t->step);
    holdout_batch_release(&t->holdout);
}

static int open_trainee(void *trainee, const struct fit_loop *l, struct error *e)
{
    struct trainee *t = trainee;
    const struct fit_unet *f = (const struct fit_unet *)l;
    const struct step_options *o = &l->options.step;
    struct batch_reader_options reader = fit_loop_reader_options(l);
    t->f = f;
    holdout_batch_init(&t->holdout);
    if (unet_step_open(&t->step, l->parameters, l->collective, o, &f->step, e) != 0)
        return -1;
    if (f->embed_neighbours > 0 &&
        embed_neighbours_open(&t->neighbours, f->data, f->embed_neighbours, o->seed, e) != 0)
        return -1;
    return latent_reader_open(&t->reader, f->data, t->neighbours, &reader, e);
}

static int64_t memory(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like)
{
    const struct fit_unet *u = (const struct fit_unet *)f;
    const struct shard_info *info = latent_set_info(u->data);
    struct architecture architecture = parameters_architecture(f->parameters);
    int64_t bytes = unet_step_memory(&architecture, o, &u->step, like, f->collective->size,
                                     info->latent_height, info->latent_width);
    architecture_release(&architecture);
    return bytes + u->score_bytes;
}

static int64_t data_memory(const struct fit_loop *f, const struct batch_reader_options *o)
{
    const struct fit_unet *u = (const struct fit_unet *)f;
    int64_t embeds = latent_set_info(u->data)->embed_size * (int64_t)sizeof(float);
    int64_t averaged = u->embed_neighbours > 0 ? latent_set_training_count(u->data) : 0;
    return latent_reader_memory(u->data, o) + averaged * embeds;
}

const struct trainee_functions fit_unet_functions = {
    .size = sizeof(struct trainee),
    .open = open_trainee,
    .close = close_trainee,
    .updater = updater,
    .read = read_batch,
    .micro_batch = micro_batch,
    .update = update,
    .evaluate = evaluate,
    .numbers = numbers,
    .waited = waited,
    .unreadable = unreadable,
    .describe = describe,
    .demo = demo,
    .score = score,
    .announce = warn_of_overfitting,
    .memory = memory,
    .data_memory = data_memory,
    .can_recompute = true,
};
