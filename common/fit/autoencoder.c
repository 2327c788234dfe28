#include "common/fit/autoencoder.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/fit/demo.h"
#include "common/images/grid.h"
#include "common/images/prepare.h"
#include "common/images/quality.h"

struct trainee {
    const struct fit_autoencoder *f;
    struct autoencoder_step *step;
    struct image_reader *reader;
    const struct image_batch *batch; /* read last */
    struct image_batch held_out;
    struct autoencoder_losses sums; /* over the steps since metrics were last logged */
    int64_t steps;
};

static struct autoencoder_batch autoencoder_batch(const struct image_batch *b)
{
    return (struct autoencoder_batch){b->n, b->height, b->width, b->images, b->samples};
}

static int read_batch(void *trainee, int64_t step, int64_t k, struct error *e)
{
    struct trainee *t = trainee;
    if (image_reader_next(t->reader, &t->batch, e) != 0)
        return -1;
    CHECK(t->batch->at.step == step && t->batch->at.micro_batch == k);
    return 0;
}

static void micro_batch(void *trainee)
{
    struct trainee *t = trainee;
    struct autoencoder_batch batch = autoencoder_batch(t->batch);
    autoencoder_step_micro_batch(t->step, t->batch->at.step, &batch);
}

static void update(void *trainee, double learning_rate, double ema_decay, struct step_result *r)
{
    struct trainee *t = trainee;
    autoencoder_step_update(t->step, learning_rate, ema_decay, r);
    if (!r->applied)
        return;
    struct autoencoder_losses losses = autoencoder_step_losses(t->step);
    t->sums.reconstruction += losses.reconstruction;
    t->sums.kl += losses.kl;
    t->steps++;
}

static struct updater *updater(void *trainee)
{
    struct trainee *t = trainee;
    return autoencoder_step_updater(t->step);
}

/* Appends those of LPIPS and the discriminator, if they are used. */
static void add_further(struct trainee *t, struct fit_numbers *n)
{
    struct reconstruction_numbers r = autoencoder_step_numbers(t->step);
    if (t->f->step.lpips && isfinite(r.perceptual))
        fit_number(n, "loss/lpips", r.perceptual);
    if (!t->f->loop.parameters->companion || !isfinite(r.discriminator))
        return;
    fit_number(n, "loss/discriminator", r.discriminator);
    fit_number(n, "loss/generator", r.generator);
    fit_number(n, "discriminator/weight", r.weight);
    fit_number(n, "discriminator/logit", r.logit);
    fit_number(n, "discriminator/logit-of-reconstructions", r.fake_logit);
    fit_number(n, "discriminator/gradient-norm", r.gradient_norm);
    if (r.rejected > 0)
        fit_number(n, "discriminator/bad-steps", (double)r.rejected);
}

static void numbers(void *trainee, struct fit_numbers *n)
{
    struct trainee *t = trainee;
    if (t->steps > 0) {
        fit_number(n, "loss/reconstruction", t->sums.reconstruction / (double)t->steps);
        fit_number(n, "loss/kl", t->sums.kl / (double)t->steps);
    }
    add_further(t, n);
    t->sums = (struct autoencoder_losses){0};
    t->steps = 0;
}

/* Of held-out images: sums, or means. */
struct quality {
    double loss, kl, psnr, ssim, lpips, images;
};

struct judging {
    const struct image_batch *images;
    const float *reconstructions;
    double *psnr, *ssim;
};

static void judge_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct judging *j = arg;
    int height = j->images->height, width = j->images->width;
    size_t size = 3 * (size_t)height * (size_t)width;
    for (int64_t i = begin; i < end; i++) {
        const float *a = j->images->images + (size_t)i * size;
        const float *b = j->reconstructions + (size_t)i * size;
        j->psnr[i] = image_psnr(a, b, height, width);
        j->ssim[i] = image_ssim(a, b, height, width);
    }
}

/* values: of each image. */
static void judge_batch(struct trainee *t, enum parameter_array which, const struct image_batch *b,
                        struct quality *values)
{
    size_t n = (size_t)b->n;
    float *reconstructions =
        xmalloc(n * 3 * (size_t)b->height * (size_t)b->width * sizeof *reconstructions);
    struct autoencoder_losses *losses = xcalloc(n, sizeof *losses);
    double *psnr = xcalloc(2 * n, sizeof *psnr), *ssim = psnr + n;
    struct autoencoder_batch batch = autoencoder_batch(b);
    autoencoder_step_reconstruct(t->step, which, &batch, reconstructions, losses);
    struct judging j = {b, reconstructions, psnr, ssim};
    parallel_for(b->n, 1, judge_some, &j);
    for (size_t i = 0; i < n; i++)
        values[i] = (struct quality){losses[i].total, losses[i].kl,         psnr[i],
                                     ssim[i],         losses[i].perceptual, 1};
    free(psnr);
    free(losses);
    free(reconstructions);
}

static void add_quality(struct quality *sums, const struct quality *q)
{
    sums->loss += q->loss;
    sums->kl += q->kl;
    sums->psnr += q->psnr;
    sums->ssim += q->ssim;
    sums->lpips += q->lpips;
    sums->images += q->images;
}

/* Values of up to a batch of held-out images from `first` on; zeros for those that cannot be read.
 */
static int judge_some_images(struct trainee *t, enum parameter_array which, int64_t first,
                             struct quality *values, struct error *e)
{
    int64_t batch = t->f->loop.options.step.batch;
    int64_t left = image_set_order(t->f->images)->holdout - first, n = left < batch ? left : batch;
    memset(values, 0, (size_t)batch * sizeof *values);
    if (n <= 0)
        return 0;
    if (image_set_read_holdout(t->f->images, first, n, &t->held_out, e) != 0)
        return -1;
    if (t->held_out.n > 0)
        judge_batch(t, which, &t->held_out, values);
    return 0;
}

/* Each rank judges every size-th batch. 1: fit_stop_requested. */
static int judge(struct trainee *t, enum parameter_array which, struct quality *mean,
                 struct error *e)
{
    const struct fit_loop *f = &t->f->loop;
    int64_t count = image_set_order(t->f->images)->holdout, batch = f->options.step.batch;
    int64_t together = batch * f->collective->size;
    struct quality *own = xcalloc((size_t)batch, sizeof *own);
    struct quality *all = xcalloc((size_t)together, sizeof *all), sums = {0};
    int status = 0;
    for (int64_t first = 0; first < count; first += together) {
        status = fit_stop_requested(f);
        if (status != 0)
            break;
        int64_t at = first + f->collective->rank * batch;
        status = fit_agree(f, judge_some_images(t, which, at, own, e), e);
        if (status != 0)
            break;
        collective_gather(f->collective, own, all, (size_t)batch * sizeof *own);
        for (int64_t i = 0; i < together; i++)
            add_quality(&sums, &all[i]);
    }
    free(own);
    free(all);
    if (status != 0)
        return status;
    if (sums.images == 0)
        return error_set(e, "none of the held-out images can be read");
    *mean =
        (struct quality){sums.loss / sums.images, sums.kl / sums.images,    sums.psnr / sums.images,
                         sums.ssim / sums.images, sums.lpips / sums.images, sums.images};
    return 0;
}

static int evaluate(void *trainee, struct fit_numbers *n, struct error *e)
{
    struct trainee *t = trainee;
    struct quality ema, raw;
    int status = judge(t, ARRAY_EMA, &ema, e);
    if (status == 0)
        status = judge(t, ARRAY_WEIGHTS, &raw, e);
    if (status != 0)
        return status;
    fit_number(n, "holdout-loss/ema", ema.loss);
    fit_number(n, "holdout-loss/raw", raw.loss);
    fit_number(n, "holdout-psnr/ema", ema.psnr);
    fit_number(n, "holdout-psnr/raw", raw.psnr);
    fit_number(n, "holdout-ssim/ema", ema.ssim);
    fit_number(n, "holdout-ssim/raw", raw.ssim);
    fit_number(n, "holdout-kl/ema", ema.kl);
    if (t->f->step.lpips)
        fit_number(n, "holdout-lpips/ema", ema.lpips);
    snprintf(n->text, sizeof n->text,
             "held-out loss %.5f, PSNR %.2f dB, SSIM %.4f; with raw weights %.5f, %.2f dB, %.4f",
             ema.loss, ema.psnr, ema.ssim, raw.loss, raw.psnr, raw.ssim);
    return 0;
}

static double waited(void *trainee)
{
    struct trainee *t = trainee;
    return image_reader_waited(t->reader);
}

static struct unreadable *unreadable(void *trainee)
{
    struct trainee *t = trainee;
    return image_set_unreadable(t->f->images);
}

static char *describe(void *trainee, uint64_t sample)
{
    struct trainee *t = trainee;
    return xstrdup(image_set_path(t->f->images, (int64_t)sample));
}

/* images: [b->n, 3, b->height, b->width] */
static int add_images(struct grid *g, const float *images, const struct image_batch *b,
                      struct error *e)
{
    size_t size = 3 * (size_t)b->height * (size_t)b->width;
    for (int64_t i = 0; i < b->n; i++) {
        struct image image;
        struct image_remarks none = {0};
        if (image_new(&image, b->width, b->height, 3, 8, e) != 0)
            return -1;
        image_from_signed(&image, images + (size_t)i * size);
        if (grid_add(g, &image, &none, "a demo image", e) != 0)
            return -1;
    }
    return 0;
}

/* The first held-out images or, if there are too few, the first of all images. */
static int read_demo_images(struct trainee *t, struct image_batch *b, struct error *e)
{
    const struct order *o = image_set_order(t->f->images);
    int64_t n = t->f->demo_images < o->records ? t->f->demo_images : o->records;
    int64_t *records = xcalloc((size_t)n, sizeof *records);
    for (int64_t i = 0; i < n; i++)
        records[i] = n <= o->holdout ? order_holdout_at(o, i) : i;
    int status = image_set_read(t->f->images, records, n, b, e);
    free(records);
    return status;
}

static int demo(void *trainee, const char *run, int64_t step, struct metrics *m, struct error *e)
{
    struct trainee *t = trainee;
    struct image_batch b = {0};
    struct grid grid = {0};
    int status = read_demo_images(t, &b, e);
    if (status != 0 || b.n == 0) {
        image_batch_release(&b);
        return status;
    }
    size_t size = 3 * (size_t)b.height * (size_t)b.width;
    float *reconstructions = xmalloc((size_t)b.n * size * sizeof *reconstructions);
    struct autoencoder_losses *losses = xcalloc((size_t)b.n, sizeof *losses);
    struct autoencoder_batch part = autoencoder_batch(&b);
    for (int64_t i = 0, batch = t->f->loop.options.step.batch; i < b.n; i += batch) {
        part.n = b.n - i < batch ? b.n - i : batch;
        part.images = b.images + (size_t)i * size;
        autoencoder_step_reconstruct(t->step, ARRAY_EMA, &part, reconstructions + (size_t)i * size,
                                     losses + i);
    }
    status = add_images(&grid, b.images, &b, e);
    if (status == 0)
        status = add_images(&grid, reconstructions, &b, e);
    if (status == 0)
        status = demo_keep(&grid, (int)b.n, run, step, m, e);
    grid_release(&grid);
    image_batch_release(&b);
    free(reconstructions);
    free(losses);
    return status;
}

static void close_trainee(void *trainee)
{
    struct trainee *t = trainee;
    image_reader_close(t->reader);
    autoencoder_step_close(t->step);
    image_batch_release(&t->held_out);
}

static int open_trainee(void *trainee, const struct fit_loop *l, struct error *e)
{
    struct trainee *t = trainee;
    const struct fit_autoencoder *f = (const struct fit_autoencoder *)l;
    const struct step_options *o = &l->options.step;
    struct batch_reader_options reader = fit_loop_reader_options(l);
    t->f = f;
    if (autoencoder_step_open(&t->step, l->parameters, l->collective, o, &f->step, e) != 0)
        return -1;
    return image_reader_open(&t->reader, f->images, &reader, f->flip, e);
}

static int64_t memory(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like)
{
    const struct fit_autoencoder *a = (const struct fit_autoencoder *)f;
    const struct image_set_options *set = image_set_options(a->images);
    return autoencoder_step_memory(f->parameters, o, &a->step, like, f->collective->size,
                                   set->height, set->width);
}

static int64_t data_memory(const struct fit_loop *f, const struct batch_reader_options *o)
{
    const struct fit_autoencoder *a = (const struct fit_autoencoder *)f;
    const struct image_set_options *set = image_set_options(a->images);
    int64_t image = 3 * (int64_t)set->height * set->width * (int64_t)sizeof(float);
    return image_reader_memory(a->images, o) + 2 * o->batch * image; /* and its reconstructions */
}

const struct trainee_functions fit_autoencoder_functions = {
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
    .memory = memory,
    .data_memory = data_memory,
};
