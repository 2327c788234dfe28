#include "common/train/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/diffusion/schedule.h"
#include "common/train/sobol.h"
#include "kernels/tape.h"

/* A network that shows the bank's parameters or EMA. */
struct shown {
    struct named_weights names;
    struct unet *unet;
};

struct step {
    struct bank *bank;
    struct collective *collective;
    struct step_options options;
    struct shown trained, average; /* average: opened when first asked for */
    struct tape tape;
    struct step_sample *samples;
    int64_t micro_batch; /* done of this update */
};

static void shown_release(struct shown *s)
{
    unet_free(s->unet);
    if (s->names.items)
        names_release(&s->names);
}

static int show(struct shown *s, const struct bank *b, enum bank_array which, struct error *e)
{
    bank_names(&s->names, b, which);
    return unet_load(&s->unet, &s->names, b->device, e);
}

int step_open(struct step **out, struct bank *b, struct collective *c, const struct step_options *o,
              struct error *e)
{
    CHECK(o->batch >= 1 && o->accumulate >= 1 && o->autoencoder_scale > 0);
    if (b->net != NET_UNET)
        return error_set(e, "it is no U-Net");
    struct step *s = xcalloc(1, sizeof *s);
    s->bank = b;
    s->collective = c;
    s->options = *o;
    tape_init(&s->tape, b->device);
    if (show(&s->trained, b, BANK_PARAMETERS, e)) {
        step_close(s);
        return -1;
    }
    bank_bind(b, unet_loader(s->trained.unet));
    unet_set_recompute(s->trained.unet, o->recompute);
    s->samples = xcalloc((size_t)(o->batch * o->accumulate), sizeof *s->samples);
    *out = s;
    return 0;
}

void step_close(struct step *s)
{
    if (!s)
        return;
    tape_release(&s->tape);
    shown_release(&s->trained);
    shown_release(&s->average);
    free(s->samples);
    free(s);
}

int64_t step_effective_batch(const struct step *s)
{
    return s->options.batch * s->options.accumulate * s->collective->size;
}

const struct unet_sizes *step_sizes(const struct step *s)
{
    return unet_sizes(s->trained.unet);
}

static struct tensor *normals(const struct step *s, enum rng_purpose purpose, uint32_t step,
                              const struct training_batch *b)
{
    struct device *d = s->bank->device;
    int64_t z = step_sizes(s)->latent_channels;
    struct tensor *y = tensor_new(d, DTYPE_F32, DIMS(b->n, z, b->height, b->width));
    struct tensor *draws = tensor_new(d, DTYPE_I64, DIMS(b->n, 2));
    int64_t *host = xmalloc((size_t)(2 * b->n) * sizeof *host);
    for (int64_t i = 0; i < b->n; i++) {
        host[2 * i] = (int64_t)b->samples[i];
        host[2 * i + 1] = step;
    }
    tensor_upload(draws, host);
    free(host);
    struct normals_args args = {s->options.seed, (int)purpose, draws, y};
    d->backend->normals(d, &args);
    tensor_release(draws);
    return y;
}

/* Host memory as the device sees it, without a copy where it can. */
static struct tensor *input(struct device *d, int ndim, const int64_t *shape, const float *host)
{
    return d->host_memory ? tensor_borrow(d, DTYPE_F32, ndim, shape, host)
                          : tensor_from_f32(d, ndim, shape, host);
}

static void noise_latents(const struct step *s, const struct training_batch *b,
                          const struct step_noise *noise, const struct step_sample *samples,
                          struct tensor **noisy, struct tensor **target)
{
    struct device *d = s->bank->device;
    int64_t z = step_sizes(s)->latent_channels, h = b->height, w = b->width;
    float *alpha = xmalloc(2 * (size_t)b->n * sizeof *alpha), *sigma = alpha + b->n;
    struct tensor *alphas, *sigmas;
    for (int64_t i = 0; i < b->n; i++) {
        struct alpha_sigma as = alpha_sigma_of_time(samples[i].t);
        alpha[i] = (float)as.alpha;
        sigma[i] = (float)as.sigma;
    }
    alphas = tensor_from_f32(d, DIMS(b->n), alpha);
    sigmas = tensor_from_f32(d, DIMS(b->n), sigma);
    struct tensor *moments = input(d, DIMS(b->n, 2 * z, h, w), b->moments);
    *noisy = tensor_new(d, DTYPE_F32, DIMS(b->n, z, h, w));
    *target = tensor_new(d, DTYPE_F32, DIMS(b->n, z, h, w));
    struct noised_latents_args args = {
        .moments = moments,
        .posterior_noise = noise->posterior,
        .noise = noise->diffusion,
        .alpha = alphas,
        .sigma = sigmas,
        .scale = (float)s->options.autoencoder_scale,
        .noisy = *noisy,
        .target = *target,
    };
    d->backend->noised_latents(d, &args);
    tensor_release(moments);
    tensor_release(alphas);
    tensor_release(sigmas);
    free(alpha);
}

/* Embeds of dropped samples are zero: the network's unconditional case. */
static struct tensor *kept_embeds(const struct step *s, const struct training_batch *b,
                                  const struct step_sample *samples)
{
    int64_t width = step_sizes(s)->embed_width;
    float *kept = xcalloc((size_t)(b->n * width), sizeof *kept);
    for (int64_t i = 0; i < b->n; i++)
        if (!samples[i].dropped)
            memcpy(kept + i * width, b->embeds + i * width, (size_t)width * sizeof *kept);
    struct tensor *embeds = tensor_from_f32(s->bank->device, DIMS(b->n, width), kept);
    free(kept);
    return embeds;
}

/* Forward, losses into samples, and backward when the tape records. gradient_weight: 1 / elements
 * that the mean loss is over. */
static void run_batch(struct step *s, const struct unet *unet, const struct training_batch *b,
                      const struct step_noise *noise, float gradient_weight,
                      struct step_sample *samples)
{
    struct device *d = s->bank->device;
    float *host = xcalloc((size_t)b->n, sizeof *host);
    for (int64_t i = 0; i < b->n; i++)
        host[i] = samples[i].t;
    struct tensor *time = tensor_from_f32(d, DIMS(b->n), host), *noisy, *target;
    noise_latents(s, b, noise, samples, &noisy, &target);
    struct tensor *embeds = kept_embeds(s, b, samples);
    struct tensor *v = unet_forward(&s->tape, unet, noisy, time, embeds);
    tensor_release(noisy);
    tensor_release(time);
    tensor_release(embeds);
    struct tensor *loss = tensor_new(d, DTYPE_F32, DIMS(b->n));
    struct tensor *dv = s->tape.recording ? tensor_new(d, DTYPE_F32, v->ndim, v->shape) : NULL;
    struct tensor *weight = tensor_from_f32(d, DIMS(1), &gradient_weight);
    struct mse_args args = {v, target, weight, loss, dv};
    d->backend->mse(d, &args);
    tensor_release(weight);
    tensor_release(target);
    tensor_to_f32(loss, host);
    tensor_release(loss);
    if (dv)
        tape_backward(&s->tape, v, dv);
    tensor_release(dv);
    tensor_release(v);
    for (int64_t i = 0; i < b->n; i++)
        samples[i].loss = host[i];
    free(host);
}

void step_micro_batch_drawn(struct step *s, const struct training_batch *b,
                            const struct step_noise *noise, const struct step_sample *samples)
{
    const struct step_options *o = &s->options;
    CHECK(b->n == o->batch && s->micro_batch < o->accumulate);
    struct step_sample *own = s->samples + s->micro_batch * o->batch;
    memcpy(own, samples, (size_t)b->n * sizeof *own);
    if (s->micro_batch == 0)
        bank_fill(s->bank, BANK_GRADIENTS, 0);
    int64_t image = step_sizes(s)->latent_channels * b->height * b->width;
    double elements = (double)(step_effective_batch(s) * image);
    s->tape.recording = true;
    run_batch(s, s->trained.unet, b, noise, (float)(1 / elements), own);
    s->tape.recording = false;
    s->micro_batch++;
}

void step_micro_batch(struct step *s, int64_t step, const struct training_batch *b)
{
    const struct step_options *o = &s->options;
    CHECK(step >= 0 && step < (int64_t)1 << 26);
    int64_t first = step * step_effective_batch(s) +
                    (s->micro_batch * s->collective->size + s->collective->rank) * o->batch;
    struct step_sample *samples = xcalloc((size_t)b->n, sizeof *samples);
    for (int64_t i = 0; i < b->n; i++) {
        float u;
        rng_uniform(&u, 1, o->seed, RNG_UNCONDITIONAL, (uint32_t)step, b->samples[i], 0);
        samples[i].sample = b->samples[i];
        samples[i].t = sobol_scrambled(o->seed, RNG_TIME, (uint64_t)(first + i));
        samples[i].dropped = u < o->uncond_prob;
    }
    struct step_noise noise = {
        .posterior = normals(s, RNG_POSTERIOR, (uint32_t)step, b),
        .diffusion = normals(s, RNG_TRAINING_NOISE, (uint32_t)step, b),
    };
    step_micro_batch_drawn(s, b, &noise, samples);
    tensor_release(noise.posterior);
    tensor_release(noise.diffusion);
    free(samples);
}

/* Sums over all ranks. */
struct sums {
    double loss, non_finite;
};

static struct sums sum_losses(const struct step *s)
{
    double sums[2] = {0};
    for (int64_t i = 0; i < s->options.batch * s->options.accumulate; i++) {
        sums[0] += s->samples[i].loss;
        sums[1] += !isfinite(s->samples[i].loss);
    }
    collective_allreduce_host(s->collective, sums, 2);
    return (struct sums){sums[0], sums[1]};
}

static void apply(struct step *s, double learning_rate, double ema_decay, double gradient_scale)
{
    struct bank *b = s->bank;
    struct device *d = b->device;
    const struct adamw_options *o = &s->options.adamw;
    struct adamw_args args = {
        .count = b->trained_elements,
        .parameter = b->arrays[BANK_PARAMETERS]->data,
        .m = b->arrays[BANK_M]->data,
        .v = b->arrays[BANK_V]->data,
        .ema = b->arrays[BANK_EMA]->data,
        .gradient = b->arrays[BANK_GRADIENTS]->data,
        .learning_rate = learning_rate,
        .beta1 = o->beta1,
        .beta2 = o->beta2,
        .epsilon = o->epsilon,
        .weight_decay = o->weight_decay,
        .gradient_scale = gradient_scale,
        .ema_decay = ema_decay,
        .step = ++b->updates,
    };
    d->backend->adamw(d, &args);
}

void step_update(struct step *s, double learning_rate, double ema_decay, struct step_result *r)
{
    struct bank *b = s->bank;
    struct device *d = b->device;
    CHECK(s->micro_batch == s->options.accumulate);
    s->micro_batch = 0;
    float *gradients = b->arrays[BANK_GRADIENTS]->data;
    collective_allreduce(s->collective, d, gradients, b->trained_elements);
    struct sums sums = sum_losses(s);
    double squares = 0;
    struct sum_squares_args args = {b->trained_elements, gradients, &squares};
    d->backend->sum_squares(d, &args);
    *r = (struct step_result){
        .samples = s->samples,
        .count = s->options.batch * s->options.accumulate,
        .loss = sums.loss / (double)step_effective_batch(s),
        .gradient_norm = sqrt(squares),
    };
    r->applied = isfinite(r->gradient_norm) && isfinite(r->loss);
    if (!r->applied) {
        for (int64_t i = 0; i < r->count; i++)
            s->samples[i].suspect = sums.non_finite == 0 || !isfinite(s->samples[i].loss);
        return;
    }
    double clip = s->options.clip_grad, scale = 1;
    if (clip > 0 && r->gradient_norm > clip)
        scale = clip / r->gradient_norm;
    apply(s, learning_rate, ema_decay, scale);
}

void step_evaluate(struct step *s, enum bank_array which, const struct training_batch *b,
                   int64_t first, struct step_sample *samples)
{
    struct shown *shown = which == BANK_EMA ? &s->average : &s->trained;
    struct error e;
    if (!shown->unet && show(shown, s->bank, which, &e))
        die("%s", e.text); /* the same names and shapes have been loaded before */
    for (int64_t i = 0; i < b->n; i++)
        samples[i] = (struct step_sample){
            .sample = b->samples[i],
            .t = sobol_scrambled(s->options.seed, RNG_HOLDOUT_TIME, (uint64_t)(first + i)),
        };
    struct step_noise noise = {
        .posterior = normals(s, RNG_HOLDOUT_POSTERIOR, 0, b),
        .diffusion = normals(s, RNG_HOLDOUT_NOISE, 0, b),
    };
    run_batch(s, shown->unet, b, &noise, 0, samples);
    tensor_release(noise.posterior);
    tensor_release(noise.diffusion);
}

int64_t step_memory(const struct net_plan *plan, const struct step_options *o,
                    const struct device *like, int64_t height, int64_t width)
{
    struct device *d = device_open_dry(like);
    struct bank *b = bank_empty(plan, NET_UNET, d);
    struct step *s;
    struct error e;
    CHECK(step_open(&s, b, collective_alone(), o, &e) == 0);
    const struct unet_sizes *sizes = step_sizes(s);
    size_t n = (size_t)o->batch;
    struct training_batch batch = {
        .n = o->batch,
        .height = height,
        .width = width,
        .samples = xcalloc(n, sizeof *batch.samples),
        .embeds = xcalloc(n * (size_t)sizes->embed_width, sizeof(float)),
    };
    for (int64_t i = 0; i < o->accumulate; i++)
        step_micro_batch(s, 0, &batch);
    struct step_result r;
    step_update(s, 0, 0, &r);
    int64_t bytes = (int64_t)device_memory(d).peak;
    free((void *)batch.samples);
    free((void *)batch.embeds);
    step_close(s);
    bank_free(b);
    device_close(d);
    return bytes;
}
