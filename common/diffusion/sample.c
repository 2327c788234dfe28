#include "common/diffusion/sample.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/base/text.h"
#include "common/diffusion/embed_noise.h"
#include "common/diffusion/guidance.h"
#include "common/diffusion/unet_replay.h"
#include "common/images/prepare.h"
#include "kernels/ops.h"

/* Rows (images times conditions) that go through the U-Net at once: as many as two conditions of a
 * batch make, but at least this many. Memory use thus depends on the batch size alone. */
#define MIN_ROWS 8

struct run {
    const struct sample_options *o;
    const struct unet *unet;
    const struct kl *kl;
    const struct conditionings *conditionings;
    int64_t channels, height, width, elements; /* of one latent */
    float *steps;
    int step_count;
    float *init; /* [elements], or NULL */
    struct unet_replays replays;
    struct progress *progress;
    int64_t images, done; /* requested, finished */
    int evaluations;      /* per image */
};

/* Images that are sampled together. */
struct batch {
    struct run *run;
    struct tape *tape;
    int n;
    int64_t first_job;     /* job = conditioning * count + image */
    int conditions;        /* with a weight other than 0 */
    float *weights;        /* [conditions]; the unconditional one, if present, comes first */
    float *unguided;       /* [conditions], for times above guidance_start */
    bool may_be_unguided;  /* unguided is valid */
    struct tensor *embeds; /* [conditions * n, embedding width], grouped by condition */
};

static int job_conditioning(const struct run *r, int64_t job)
{
    return (int)(job / r->o->count);
}

static int64_t job_index(const struct run *r, int64_t job)
{
    return r->o->first + (r->o->consecutive ? job : job % r->o->count);
}

__attribute__((format(printf, 3, 4))) static void remark(struct image_remarks *r, const char *key,
                                                         const char *format, ...)
{
    char text[40];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    image_remarks_set(r, key, text);
}

void sample_remarks(struct image_remarks *r, const struct sample_options *o,
                    const struct conditioning *c, int64_t index, const char *model)
{
    image_remarks_set(r, "prompt", c->label);
    if (c->count > 1 || c->prompts[0].is_image) {
        char *line = conditioning_line(c);
        image_remarks_set(r, "prompts", line);
        free(line);
    }
    remark(r, "seed", "%" PRIu64, o->seed);
    remark(r, "index", "%" PRId64, index);
    remark(r, "steps", "%d", o->steps);
    image_remarks_set(r, "method", sampler_method_names[o->method]);
    remark(r, "guidance", "%.9g", c->guidance);
    if (o->guidance_start < 1)
        remark(r, "guidance_start", "%.9g", o->guidance_start);
    if (o->embed_noise > 0)
        remark(r, "embed_noise", "%.9g", o->embed_noise);
    image_remarks_set(r, "schedule", schedule_names[o->schedule]);
    if (o->method == SAMPLER_DDIM && o->eta > 0)
        remark(r, "eta", "%.9g", o->eta);
    if (o->init) {
        image_remarks_set(r, "init", o->init);
        remark(r, "starting_timestep", "%.9g", o->starting_time);
    }
    image_remarks_set(r, "model", model);
}

int sample_check(const struct sample_options *o, const struct unet *unet, const struct kl *kl,
                 struct error *e)
{
    const struct unet_sizes *u = unet_sizes(unet);
    const struct kl_sizes *k = kl_sizes(kl);
    int multiple = k->factor * u->side_multiple;
    if (u->latent_channels != k->latent_channels)
        return error_set(e,
                         "the diffusion model's latents have %" PRId64
                         " channels, the autoencoder's %" PRId64,
                         u->latent_channels, k->latent_channels);
    if (!k->has_decoder)
        return error_set(e, "the autoencoder's file has no decoder");
    if (o->init && !k->has_encoder)
        return error_set(e, "the autoencoder's file has no encoder, which --init needs");
    if (o->height < 1 || o->width < 1 || o->height % multiple != 0 || o->width % multiple != 0)
        return error_set(e,
                         "a size of %dx%d pixels does not fit the model: both sides must be "
                         "multiples of %d",
                         o->height, o->width, multiple);
    return 0;
}

/* The posterior mean of the init image, scaled as the U-Net's latents are. */
static int encode_init(struct run *r, struct tape *t, struct error *e)
{
    size_t n = 3 * (size_t)r->o->height * (size_t)r->o->width;
    float *x = xmalloc(n * sizeof *x);
    if (prepare_file(x, r->o->init, r->o->width, r->o->height, e) != 0) {
        free(x);
        return -1;
    }
    prepare_to_signed(x, n);
    struct tensor *input = tensor_from_f32(t->device, DIMS(1, 3, r->o->height, r->o->width), x);
    struct tensor *moments = kl_encode(t, r->kl, input);
    float *both = xmalloc(2 * (size_t)r->elements * sizeof *both);
    tensor_to_f32(moments, both);
    r->init = xmalloc((size_t)r->elements * sizeof *r->init);
    bool finite = true;
    for (int64_t i = 0; i < r->elements; i++) {
        r->init[i] = (float)(both[i] / r->o->autoencoder_scale);
        finite = finite && isfinite(r->init[i]);
    }
    free(both);
    free(x);
    tensor_release(moments);
    tensor_release(input);
    return finite ? 0 : error_set(e, "the latent of '%s' is not finite", r->o->init);
}

static int plan_steps(struct run *r, struct error *e)
{
    const struct sample_options *o = r->o;
    r->steps = xmalloc((size_t)o->steps * sizeof *r->steps);
    schedule_steps(o->schedule, o->steps, r->steps);
    r->step_count = o->steps;
    if (o->init) {
        r->step_count = schedule_cut(r->steps, o->steps, o->starting_time);
        if (r->step_count == 0)
            return error_set(e, "no step of %d is below a starting timestep of %g", o->steps,
                             o->starting_time);
    }
    return 0;
}

static struct tensor *predict_v(void *context, struct tape *t, struct tensor *x, float time)
{
    const struct batch *b = context;
    int rows = 2 * b->n > MIN_ROWS ? 2 * b->n : MIN_ROWS;
    int together = b->run->o->low_memory ? 1 : rows / b->n;
    bool unguided = b->may_be_unguided && time > b->run->o->guidance_start;
    const float *weights = unguided ? b->unguided : b->weights;
    struct tensor **parts = xcalloc((size_t)b->conditions, sizeof *parts);
    for (int begin = weights[0] == 0; begin < b->conditions; begin += together) {
        int k = b->conditions - begin < together ? b->conditions - begin : together;
        struct tensor *embeds = tensor_slice(b->embeds, (int64_t)begin * b->n, (int64_t)k * b->n);
        struct tensor *v = unet_replays_run(&b->run->replays, t, x, time, embeds);
        for (int i = 0; i < k; i++) {
            struct tensor *part = tensor_slice(v, (int64_t)i * b->n, b->n);
            parts[begin + i] = linear_combination(t, 1, &part, (float[]){1}); /* v is reused */
            tensor_release(part);
        }
        tensor_release(embeds);
    }
    struct tensor *v = guidance_combine(t, b->conditions, parts, weights);
    for (int i = 0; i < b->conditions; i++)
        tensor_release(parts[i]);
    free(parts);
    return v;
}

static struct tensor *latents_from(const struct batch *b, struct tape *t, const float *src)
{
    const struct run *r = b->run;
    return tensor_from_f32(t->device, DIMS(b->n, r->channels, r->height, r->width), src);
}

/* The noise that DDPM and DDIM add depends on an image's index, not on its place in the batch. */
static struct tensor *draw_noise(void *context, struct tape *t, const struct tensor *x, int call)
{
    const struct batch *b = context;
    const struct run *r = b->run;
    size_t n = (size_t)r->elements;
    float *noise = xmalloc((size_t)b->n * n * sizeof *noise);
    for (int i = 0; i < b->n; i++)
        rng_normal(noise + (size_t)i * n, n, r->o->seed, RNG_SAMPLER_NOISE, (uint32_t)call,
                   (uint64_t)job_index(r, b->first_job + i), 0);
    struct tensor *y = latents_from(b, t, noise);
    free(noise);
    return y;
}

/* The sampler's initial state: noise as torch draws it, or the init image with that noise added. */
static struct tensor *starting_latents(const struct batch *b, struct tape *t)
{
    const struct run *r = b->run;
    size_t n = (size_t)r->elements;
    float *x = xmalloc((size_t)b->n * n * sizeof *x);
    for (int i = 0; i < b->n; i++)
        rng_torch_normal(x + (size_t)i * n, n, r->o->seed,
                         (uint64_t)job_index(r, b->first_job + i) * n);
    struct tensor *noise = latents_from(b, t, x);
    if (r->init) {
        for (int i = 0; i < b->n; i++)
            memcpy(x + (size_t)i * n, r->init, n * sizeof *x);
        struct tensor *image = latents_from(b, t, x);
        tensor_replace(&noise, sampler_add_noise(t, image, noise, r->steps[0]));
        tensor_release(image);
    }
    free(x);
    return noise;
}

static bool same_weights(const struct conditioning *a, const struct conditioning *b)
{
    return a->count == b->count &&
           memcmp(a->weights, b->weights, ((size_t)a->count + 1) * sizeof *a->weights) == 0;
}

/* Starts a batch of the next images: as many as fit whose conditions have the same weights. */
static void batch_begin(struct batch *b, struct run *r, struct tape *t)
{
    const struct conditioning *all = r->conditionings->items;
    const struct conditioning *lead = &all[job_conditioning(r, r->done)];
    *b = (struct batch){.run = r, .tape = t, .first_job = r->done, .n = 1};
    while (b->n < r->o->batch_size && r->done + b->n < r->images &&
           same_weights(lead, &all[job_conditioning(r, r->done + b->n)]))
        b->n++;

    size_t width = (size_t)unet_sizes(r->unet)->embed_width;
    size_t rows = ((size_t)lead->count + 1) * (size_t)b->n, row = 0;
    float *embeds = xcalloc(rows * width, sizeof *embeds);
    b->weights = xcalloc((size_t)lead->count + 1, sizeof *b->weights);
    b->unguided = xcalloc((size_t)lead->count + 1, sizeof *b->unguided);
    b->may_be_unguided = guidance_unguided_weights(b->unguided, lead->weights, lead->count);
    for (int i = 0; i <= lead->count; i++) {
        if (lead->weights[i] == 0)
            continue;
        b->weights[b->conditions] = lead->weights[i];
        b->unguided[b->conditions++] = b->unguided[i];
        for (int j = 0; j < b->n; j++, row++) {
            if (i == 0) /* the unconditional embedding stays zero */
                continue;
            const struct conditioning *c = &all[job_conditioning(r, b->first_job + j)];
            size_t at = (size_t)(i - 1) * width;
            memcpy(embeds + row * width, c->embeds + at, width * sizeof *embeds);
            embed_noise(embeds + row * width, (int64_t)width, r->o->embed_noise, r->o->seed,
                        RNG_PROMPT_NOISE, 0, (uint64_t)job_index(r, b->first_job + j), at);
        }
    }
    b->embeds = tensor_from_f32(t->device, DIMS((int64_t)row, (int64_t)width), embeds);
    free(embeds);
}

static void batch_end(struct batch *b)
{
    tensor_release(b->embeds);
    free(b->weights);
    free(b->unguided);
}

static bool report_progress(void *context, int done)
{
    const struct batch *b = context;
    const struct run *r = b->run;
    char detail[80];
    device_synchronize(b->tape->device); /* count finished work, not queued work */
    snprintf(detail, sizeof detail, "%" PRId64 " of %" PRId64 " image%s done", r->done, r->images,
             plural(r->images));
    progress_update(r->progress, r->done * r->evaluations + (int64_t)done * b->n, detail);
    return !r->o->stop || !*r->o->stop;
}

static int decode_and_emit(struct run *r, struct tape *t, struct tensor *latent, sample_emit *emit,
                           void *context, struct error *e)
{
    float scale = (float)r->o->autoencoder_scale;
    struct tensor *z = linear_combination(t, 1, &latent, &scale);
    struct tensor *decoded = kl_decode(t, r->kl, z);
    tensor_release(z);
    float *x = xmalloc((size_t)tensor_count(decoded) * sizeof *x);
    tensor_to_f32(decoded, x);
    tensor_release(decoded);
    int64_t index = job_index(r, r->done);
    struct image image = {0};
    int status = image_new(&image, r->o->width, r->o->height, 3, 8, e);
    if (status == 0 && !image_from_signed(&image, x))
        status =
            error_set(e, "image %" PRId64 " of seed %" PRIu64 " is not finite", index, r->o->seed);
    free(x);
    if (status == 0)
        status = emit(context, &image, job_conditioning(r, r->done), index, e);
    image_release(&image);
    r->done++;
    return status;
}

static int run_batch(struct run *r, struct tape *t, sample_emit *emit, void *context,
                     struct error *e)
{
    struct batch b;
    batch_begin(&b, r, t);
    struct sampler_options sampler = {.method = r->o->method,
                                      .steps = r->steps,
                                      .count = r->step_count,
                                      .eta = r->o->eta,
                                      .noise = draw_noise,
                                      .noise_context = &b,
                                      .progress = report_progress,
                                      .progress_context = &b};
    struct sampler_model model = {.predict_v = predict_v, .context = &b};
    r->evaluations = sampler_evaluations(&sampler);
    progress_set_total(r->progress, r->images * r->evaluations);
    struct tensor *start = starting_latents(&b, t);
    struct tensor *latents = sampler_run(t, &sampler, &model, start);
    tensor_release(start);
    if (r->o->low_memory)
        unet_replays_release(&r->replays);
    int status = latents ? 0 : error_set(e, "interrupted");
    for (int i = 0; i < b.n && status == 0; i++) {
        if (r->o->low_memory)
            device_trim(t->device);
        struct tensor *latent = tensor_slice(latents, i, 1);
        status = decode_and_emit(r, t, latent, emit, context, e);
        tensor_release(latent);
    }
    if (r->o->low_memory)
        device_trim(t->device);
    tensor_release(latents);
    batch_end(&b);
    return status;
}

static int run_all(struct run *r, struct tape *t, sample_emit *emit, void *context, struct error *e)
{
    const struct sample_options *o = r->o;
    for (;;) {
        int done = (int)(r->done / o->count);
        if (o->more && o->more(o->more_context, done, e) != 0)
            return -1;
        r->images = r->conditionings->count * o->count;
        if (r->done == r->images)
            return 0;
        if (run_batch(r, t, emit, context, e) != 0)
            return -1;
    }
}

int sample_run(struct tape *t, const struct sample_options *o, const struct unet *unet,
               const struct kl *kl, const struct conditionings *conditionings, sample_emit *emit,
               void *context, struct error *e)
{
    int factor = kl_sizes(kl)->factor;
    struct run r = {.o = o,
                    .unet = unet,
                    .replays = {.unet = unet},
                    .kl = kl,
                    .conditionings = conditionings,
                    .channels = unet_sizes(unet)->latent_channels,
                    .height = o->height / factor,
                    .width = o->width / factor};
    r.elements = r.channels * r.height * r.width;
    int status = plan_steps(&r, e);
    if (status == 0 && o->init)
        status = encode_init(&r, t, e);
    if (status == 0) {
        r.progress = o->silent ? NULL : progress_start("sampling", "evaluations", -1);
        status = run_all(&r, t, emit, context, e);
        progress_finish(r.progress);
    }
    unet_replays_release(&r.replays);
    free(r.init);
    free(r.steps);
    return status;
}
