#include "common/train/unet_step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/diffusion/embed_noise.h"
#include "common/diffusion/schedule.h"
#include "common/train/network_views.h"
#include "common/train/sobol.h"
#include "kernels/replay.h"
#include "kernels/tape.h"

/* The inputs that change between micro-batches. Their device memory stays in place, so that the
 * work on them can be replayed. */
struct inputs {
    int64_t n, height, width;
    struct tensor *moments, *embeds, *draws;
    struct tensor *numbers;                       /* the next four, concatenated */
    struct tensor *time, *alpha, *sigma, *weight; /* [n], [n], [n], [1] */
    struct tensor *loss;                          /* [n]: the output */
};

struct unet_step {
    struct parameters *parameters;
    struct collective *collective;
    struct step_options options;
    struct unet_step_options unet;
    struct network_views views;
    struct tape tape;
    struct inputs inputs;             /* n is 0 until the first micro-batch */
    struct replay *work[2];           /* of the first micro-batch of an update, and of others */
    struct tensor *losses;            /* [batch * accumulate] */
    struct unet_step_sample *samples; /* [batch * accumulate] */
    uint64_t *suspects;
    int64_t micro_batch; /* those done so far in this update */
    struct updater updater;
};

int unet_step_open(struct unet_step **out, struct parameters *p, struct collective *c,
                   const struct step_options *o, const struct unet_step_options *u, struct error *e)
{
    CHECK(o->batch >= 1 && o->accumulate >= 1 && u->autoencoder_scale > 0);
    if (p->net != NET_UNET)
        return error_set(e, "not a U-Net");
    struct unet_step *s = xcalloc(1, sizeof *s);
    s->parameters = p;
    s->collective = c;
    s->options = *o;
    s->unet = *u;
    tape_init(&s->tape, p->device);
    if (o->optimizer == OPTIMIZER_MUON && !p->arrays[ARRAY_EMA])
        parameters_kernels_first(p);
    updater_init(&s->updater, p, c, &o->adamw, o->clip_grad, o->accumulate);
    if (o->optimizer == OPTIMIZER_MUON)
        updater_use_muon(&s->updater);
    if (network_views_open(&s->views, &unet_network, p, e) != 0) {
        unet_step_close(s);
        return -1;
    }
    unet_set_recompute(s->views.trained.network, o->recompute);
    updater_write_copies(&s->updater, network_view_loader(&s->views.trained));
    size_t count = (size_t)(o->batch * o->accumulate);
    s->losses = tensor_new(p->device, DTYPE_F32, DIMS((int64_t)count));
    s->samples = xcalloc(count, sizeof *s->samples);
    s->suspects = xcalloc(count, sizeof *s->suspects);
    *out = s;
    return 0;
}

static void inputs_release(struct inputs *in)
{
    tensor_release(in->time);
    tensor_release(in->alpha);
    tensor_release(in->sigma);
    tensor_release(in->weight);
    tensor_release(in->numbers);
    tensor_release(in->moments);
    tensor_release(in->embeds);
    tensor_release(in->draws);
    tensor_release(in->loss);
    *in = (struct inputs){0};
}

void unet_step_close(struct unet_step *s)
{
    if (!s)
        return;
    replay_free(s->work[0]);
    replay_free(s->work[1]);
    updater_release(&s->updater);
    inputs_release(&s->inputs);
    tensor_release(s->losses);
    tape_release(&s->tape);
    network_views_release(&s->views);
    free(s->samples);
    free(s->suspects);
    free(s);
}

static int64_t effective_batch(const struct unet_step *s)
{
    return step_effective_batch(&s->options, s->collective);
}

const struct unet_sizes *unet_step_sizes(const struct unet_step *s)
{
    return unet_sizes(s->views.trained.network);
}

struct updater *unet_step_updater(struct unet_step *s)
{
    return &s->updater;
}

static void inputs_make(struct inputs *in, const struct unet_step *s, const struct unet_batch *b)
{
    struct device *d = s->parameters->device;
    const struct unet_sizes *sizes = unet_step_sizes(s);
    int64_t n = b->n;
    *in = (struct inputs){
        .n = n,
        .height = b->height,
        .width = b->width,
        .moments =
            tensor_new(d, DTYPE_F32, DIMS(n, 2 * sizes->latent_channels, b->height, b->width)),
        .embeds = tensor_new(d, DTYPE_F32, DIMS(n, sizes->embed_width)),
        .draws = tensor_new(d, DTYPE_I64, DIMS(n, 2)),
        .numbers = tensor_new(d, DTYPE_F32, DIMS(3 * n + 1)),
        .loss = tensor_new(d, DTYPE_F32, DIMS(n)),
    };
    in->time = tensor_slice(in->numbers, 0, n);
    in->alpha = tensor_slice(in->numbers, n, n);
    in->sigma = tensor_slice(in->numbers, 2 * n, n);
    in->weight = tensor_slice(in->numbers, 3 * n, 1);
}

/* Dropped samples get an embedding of zeros: the network's unconditional case. */
static void upload_embeds(const struct inputs *in, const struct unet_batch *b,
                          const struct unet_step_sample *samples)
{
    int64_t width = tensor_last(in->embeds);
    float *kept = xcalloc((size_t)(b->n * width), sizeof *kept);
    for (int64_t i = 0; i < b->n; i++)
        if (!samples[i].dropped)
            memcpy(kept + i * width, b->embeds + i * width, (size_t)width * sizeof *kept);
    tensor_upload(in->embeds, kept);
    free(kept);
}

/* gradient_weight: the loss scale divided by the number of elements in the mean loss. */
static void upload_numbers(const struct inputs *in, const struct unet_step_sample *samples,
                           double gradient_weight)
{
    float *numbers = xmalloc((size_t)(3 * in->n + 1) * sizeof *numbers);
    for (int64_t i = 0; i < in->n; i++) {
        struct alpha_sigma as = alpha_sigma_of_time(samples[i].t);
        numbers[i] = samples[i].t;
        numbers[in->n + i] = (float)as.alpha;
        numbers[2 * in->n + i] = (float)as.sigma;
    }
    numbers[3 * in->n] = (float)gradient_weight;
    tensor_upload(in->numbers, numbers);
    free(numbers);
}

static void upload_draws(const struct inputs *in, const struct unet_batch *b, int64_t step)
{
    int64_t *draws = xmalloc((size_t)(2 * in->n) * sizeof *draws);
    for (int64_t i = 0; i < in->n; i++) {
        draws[2 * i] = (int64_t)b->samples[i];
        draws[2 * i + 1] = step;
    }
    tensor_upload(in->draws, draws);
    free(draws);
}

static struct tensor *new_latents(struct device *d, const struct inputs *in)
{
    return tensor_new(d, DTYPE_F32, DIMS(in->n, in->moments->shape[1] / 2, in->height, in->width));
}

static struct tensor *normals(const struct unet_step *s, const struct inputs *in,
                              enum rng_purpose purpose)
{
    struct device *d = s->parameters->device;
    struct tensor *y = new_latents(d, in);
    struct normals_args args = {s->options.seed, (int)purpose, in->draws, y};
    d->backend->normals(d, &args);
    return y;
}

/* Forward, losses and, if the tape is recording, backward. */
static void run_batch(struct unet_step *s, const struct unet *unet, const struct inputs *in,
                      const struct unet_step_noise *noise)
{
    struct device *d = s->parameters->device;
    struct tensor *noisy = new_latents(d, in), *target = new_latents(d, in);
    struct noised_latents_args noising = {
        .moments = in->moments,
        .posterior_noise = noise->posterior,
        .noise = noise->diffusion,
        .alpha = in->alpha,
        .sigma = in->sigma,
        .scale = (float)s->unet.autoencoder_scale,
        .noisy = noisy,
        .target = target,
    };
    d->backend->noised_latents(d, &noising);
    struct tensor *v = unet_forward(&s->tape, unet, noisy, in->time, in->embeds);
    tensor_release(noisy);
    struct tensor *dv = s->tape.recording ? tensor_new(d, DTYPE_F32, v->ndim, v->shape) : NULL;
    struct mse_args args = {v, target, in->weight, in->loss, dv};
    d->backend->mse(d, &args);
    tensor_release(target);
    if (dv)
        tape_backward(&s->tape, v, dv);
    tensor_release(dv);
    tensor_release(v);
}

static void train(struct unet_step *s, const struct unet_step_noise *noise)
{
    tape_fresh_gradients(&s->tape);
    updater_watch(&s->updater, &s->tape);
    s->tape.recording = true;
    run_batch(s, s->views.trained.network, &s->inputs, noise);
    s->tape.recording = false;
    updater_sum(&s->updater);
}

/* A replay_function: a micro-batch whose noise depends on the samples. */
static void draw_and_train(struct tape *t, void *context)
{
    struct unet_step *s = context;
    struct unet_step_noise noise = {
        .posterior = normals(s, &s->inputs, RNG_POSTERIOR),
        .diffusion = normals(s, &s->inputs, RNG_TRAINING_NOISE),
    };
    train(s, &noise);
    tensor_release(noise.posterior);
    tensor_release(noise.diffusion);
}

static void micro_batch_begin(struct unet_step *s, const struct unet_batch *b,
                              const struct unet_step_sample *samples)
{
    const struct step_options *o = &s->options;
    CHECK(b->n == o->batch && s->micro_batch < o->accumulate);
    if (s->inputs.n == 0) {
        inputs_make(&s->inputs, s, b);
        for (int i = 0; i < 2; i++) {
            s->work[i] = replay_new(&s->tape, draw_and_train, s);
            replay_agree(s->work[i], step_agree, s->collective);
        }
    }
    CHECK(b->height == s->inputs.height && b->width == s->inputs.width);
    memcpy(s->samples + s->micro_batch * o->batch, samples, (size_t)b->n * sizeof *samples);
    network_views_train(&s->views);
    updater_aim(&s->updater, network_view_loader(&s->views.trained));
    int64_t image = unet_step_sizes(s)->latent_channels * b->height * b->width;
    double elements = (double)(effective_batch(s) * image);
    tensor_upload(s->inputs.moments, b->moments);
    upload_embeds(&s->inputs, b, samples);
    upload_numbers(&s->inputs, samples, s->updater.loss_scale.scale / elements);
}

/* The host reads the losses only in the update, so as not to wait for the device here. */
static void micro_batch_end(struct unet_step *s)
{
    int64_t batch = s->options.batch;
    struct tensor *place = tensor_slice(s->losses, s->micro_batch * batch, batch);
    tensor_copy(place, s->inputs.loss);
    tensor_release(place);
    updater_count(&s->updater);
    s->micro_batch++;
}

void unet_step_micro_batch_drawn(struct unet_step *s, const struct unet_batch *b,
                                 const struct unet_step_noise *noise,
                                 const struct unet_step_sample *samples)
{
    micro_batch_begin(s, b, samples);
    train(s, noise);
    micro_batch_end(s);
}

static float *noised_embeds(const struct unet_step *s, const struct unet_batch *b, int64_t step)
{
    int64_t width = unet_step_sizes(s)->embed_width;
    size_t bytes = (size_t)(b->n * width) * sizeof(float);
    float *embeds = memcpy(xmalloc(bytes), b->embeds, bytes);
    for (int64_t i = 0; i < b->n; i++)
        embed_noise(embeds + i * width, width, s->unet.embed_noise, s->options.seed,
                    RNG_EMBED_NOISE, (uint32_t)step, b->samples[i], 0);
    return embeds;
}

void unet_step_micro_batch(struct unet_step *s, int64_t step, const struct unet_batch *b)
{
    const struct step_options *o = &s->options;
    CHECK(step >= 0 && step < (int64_t)1 << 26);
    int64_t first = step * effective_batch(s) + step_position(o, s->collective, s->micro_batch);
    struct unet_step_sample *samples = xcalloc((size_t)b->n, sizeof *samples);
    for (int64_t i = 0; i < b->n; i++) {
        float u;
        rng_uniform(&u, 1, o->seed, RNG_UNCONDITIONAL, (uint32_t)step, b->samples[i], 0);
        samples[i].sample = b->samples[i];
        samples[i].t = sobol_scrambled(o->seed, RNG_TIME, (uint64_t)(first + i));
        samples[i].dropped = u < s->unet.uncond_prob;
    }
    float *embeds = noised_embeds(s, b, step);
    struct unet_batch noised = *b;
    noised.embeds = embeds;
    micro_batch_begin(s, &noised, samples);
    free(embeds);
    upload_draws(&s->inputs, b, step);
    replay_run(s->work[!updater_is_at_first(&s->updater)]);
    micro_batch_end(s);
    free(samples);
}

/* Over all ranks. */
struct sums {
    double loss, non_finite;
};

static struct sums sum_losses(const struct unet_step *s)
{
    int64_t count = s->options.batch * s->options.accumulate;
    double *values = xcalloc((size_t)(2 * count), sizeof *values), sums[2];
    for (int64_t i = 0; i < count; i++) {
        values[2 * i] = s->samples[i].loss;
        values[2 * i + 1] = !isfinite(s->samples[i].loss);
    }
    step_sum(&s->options, s->collective, values, 2, sums);
    free(values);
    return (struct sums){.loss = sums[0], .non_finite = sums[1]};
}

static int64_t find_suspects(struct unet_step *s, bool all)
{
    int64_t count = 0;
    for (int64_t i = 0; i < s->options.batch * s->options.accumulate; i++)
        if (all || !isfinite(s->samples[i].loss))
            s->suspects[count++] = s->samples[i].sample;
    return count;
}

void unet_step_update(struct unet_step *s, double learning_rate, double ema_decay,
                      struct step_result *r)
{
    int64_t count = s->options.batch * s->options.accumulate;
    CHECK(s->micro_batch == s->options.accumulate);
    s->micro_batch = 0;
    struct update_result update;
    float *losses = xcalloc((size_t)count, sizeof *losses);
    updater_fetch(&s->updater, s->losses, losses);
    updater_apply(&s->updater, learning_rate, ema_decay, &update);
    if (update.applied && !updater_writes_copies(&s->updater))
        network_views_refresh(&s->views);
    for (int64_t i = 0; i < count; i++)
        s->samples[i].loss = losses[i];
    free(losses);
    struct sums sums = sum_losses(s);
    bool finite = sums.non_finite == 0;
    bool failed =
        step_judge(r, &s->updater, &update, sums.loss / (double)effective_batch(s), finite);
    r->suspects = s->suspects;
    if (failed)
        r->suspect_count = find_suspects(s, finite);
}

const struct unet_step_sample *unet_step_samples(const struct unet_step *s)
{
    return s->samples;
}

void unet_step_evaluate(struct unet_step *s, enum parameter_array which, const struct unet_batch *b,
                        int64_t first, struct unet_step_sample *samples)
{
    struct unet *unet = network_views_evaluate(&s->views, which);
    for (int64_t i = 0; i < b->n; i++)
        samples[i] = (struct unet_step_sample){
            .sample = b->samples[i],
            .t = sobol_scrambled(s->options.seed, RNG_HOLDOUT_TIME, (uint64_t)(first + i)),
        };
    struct inputs in;
    inputs_make(&in, s, b);
    tensor_upload(in.moments, b->moments);
    upload_embeds(&in, b, samples);
    upload_numbers(&in, samples, 0);
    upload_draws(&in, b, 0);
    struct unet_step_noise noise = {
        .posterior = normals(s, &in, RNG_HOLDOUT_POSTERIOR),
        .diffusion = normals(s, &in, RNG_HOLDOUT_NOISE),
    };
    run_batch(s, unet, &in, &noise);
    tensor_release(noise.posterior);
    tensor_release(noise.diffusion);
    float *losses = xcalloc((size_t)b->n, sizeof *losses);
    tensor_to_f32(in.loss, losses);
    for (int64_t i = 0; i < b->n; i++)
        samples[i].loss = losses[i];
    free(losses);
    inputs_release(&in);
}

/* Peak memory of a training step, or of an evaluation less what is always allocated. */
static int64_t dry_run(const struct architecture *architecture, const struct step_options *o,
                       const struct unet_step_options *u, const struct device *like, int ranks,
                       int64_t height, int64_t width, bool evaluation)
{
    struct device *d = device_open_dry(like);
    struct collective dry = collective_dry(ranks);
    struct parameters *p = parameters_empty(architecture, NET_UNET, d);
    struct unet_step *s;
    struct error e;
    CHECK(unet_step_open(&s, p, &dry, o, u, &e) == 0);
    size_t n = (size_t)o->batch;
    struct unet_batch batch = {
        .n = o->batch,
        .height = height,
        .width = width,
        .samples = xcalloc(n, sizeof *batch.samples),
        .embeds = xcalloc(n * (size_t)unet_step_sizes(s)->embed_width, sizeof(float)),
    };
    int64_t held = 0;
    if (evaluation) {
        held = (int64_t)device_memory(d).in_use;
        struct unet_step_sample *samples = xcalloc(n, sizeof *samples);
        unet_step_evaluate(s, ARRAY_EMA, &batch, 0, samples);
        free(samples);
    } else {
        for (int64_t i = 0; i < o->accumulate; i++)
            unet_step_micro_batch(s, 0, &batch);
        struct step_result r;
        unet_step_update(s, 0, 0, &r);
    }
    int64_t bytes = device_dry_memory(d) - held;
    free((void *)batch.samples);
    free((void *)batch.embeds);
    unet_step_close(s);
    parameters_free(p);
    device_close(d);
    return bytes;
}

int64_t unet_step_memory(const struct architecture *architecture, const struct step_options *o,
                         const struct unet_step_options *u, const struct device *like, int ranks,
                         int64_t height, int64_t width)
{
    int64_t bytes = dry_run(architecture, o, u, like, ranks, height, width, false);
    if (like->backend->record_begin) /* replayed work keeps its memory during an evaluation */
        bytes += dry_run(architecture, o, u, like, ranks, height, width, true);
    return bytes;
}
