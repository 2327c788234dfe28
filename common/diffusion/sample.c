#include "common/diffusion/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/diffusion/embed_noise.h"
#include "common/diffusion/guidance.h"
#include "common/images/prepare.h"
#include "kernels/ops.h"
#include "kernels/replay.h"

/* As many rows (images times conditions) as two conditions of a batch make go through the U-Net at
 * once, but no fewer than this: so memory depends on the batch size alone. */
#define MIN_ROWS 8

/* The U-Net on tensors that stay where they are, so that a device can replay it. */
struct evaluation {
    const struct unet *unet;
    struct tensor *x, *time, *embeds, *v;
    struct replay *replay;
};
#define EVALUATIONS 4

struct run {
    const struct sample_options *o;
    const struct unet *unet;
    const struct kl *kl;
    const struct conditionings *conditionings;
    int64_t channels, height, width, elements; /* of one latent */
    float *steps;
    int step_count;
    float *init;                          /* [elements], or NULL */
    struct evaluation *kept[EVALUATIONS]; /* NULLs at the end */
    struct progress *progress;
    int64_t images, done; /* asked for, finished */
    int evaluations;      /* of each image */
};

/* The images that are sampled together. */
struct batch {
    struct run *run;
    struct tape *tape;
    int n;
    int64_t first_job;     /* job = conditioning * count + image */
    int conditions;        /* whose weight is not 0 */
    float *weights;        /* [conditions]; the unconditional one is first, where it is there */
    float *unguided;       /* [conditions] at times above guidance_start */
    bool may_be_unguided;  /* unguided is something */
    struct tensor *embeds; /* [conditions * n, embed width], condition after condition */
};

static int job_conditioning(const struct run *r, int64_t job)
{
    return (int)(job / r->o->count);
}

static int64_t job_index(const struct run *r, int64_t job)
{
    return r->o->first + (r->o->consecutive ? job : job % r->o->count);
}

int sample_check(const struct sample_options *o, const struct unet *unet, const struct kl *kl,
                 struct error *e)
{
    const struct unet_sizes *u = unet_sizes(unet);
    const struct kl_sizes *k = kl_sizes(kl);
    int multiple = k->factor * u->side_multiple;
    if (u->latent_channels != k->z_channels)
        return error_set(e,
                         "the diffusion model's latents have %lld channels, the autoencoder's %lld",
                         (long long)u->latent_channels, (long long)k->z_channels);
    if (!k->has_decoder)
        return error_set(e, "the autoencoder's file has no decoder");
    if (o->init && !k->has_encoder)
        return error_set(e, "the autoencoder's file has no encoder, which --init needs");
    if (o->height < 1 || o->width < 1 || o->height % multiple != 0 || o->width % multiple != 0)
        return error_set(e,
                         "a size of %dx%d pixels does not suit the model: both sides must be "
                         "multiples of %d",
                         o->height, o->width, multiple);
    return 0;
}

/* The posterior's mean of the init image, as the U-Net knows latents. */
static int encode_init(struct run *r, struct tape *t, struct error *e)
{
    const char *path = r->o->init;
    struct image image = {0}, fitted = {0};
    if (image_read(&image, path, 0, e) != 0)
        return error_prefix(e, "cannot read '%s'", path);
    if (image.warning[0])
        warn("%s: %s", path, image.warning);
    int status = prep_color(&image, PREP_DISPLAY, e);
    if (status == 0)
        status = prep_cover(&fitted, &image, r->o->width, r->o->height, e);
    image_release(&image);
    if (status != 0)
        return error_prefix(e, "cannot prepare '%s'", path);
    size_t n = 3 * (size_t)r->o->height * (size_t)r->o->width;
    float *x = xmalloc(n * sizeof *x);
    prep_to_float(x, &fitted);
    image_release(&fitted);
    prep_to_signed(x, n);
    struct tensor *input = tensor_from_f32(t->device, DIMS(1, 3, r->o->height, r->o->width), x);
    struct tensor *moments = kl_encode(t, r->kl, input);
    float *both = xmalloc(2 * (size_t)r->elements * sizeof *both);
    tensor_to_f32(moments, both);
    r->init = xmalloc((size_t)r->elements * sizeof *r->init);
    for (int64_t i = 0; i < r->elements; i++) {
        r->init[i] = (float)(both[i] / r->o->autoencoder_scale);
        if (!isfinite(r->init[i]))
            status = -1;
    }
    free(both);
    free(x);
    tensor_release(moments);
    tensor_release(input);
    return status == 0 ? 0 : error_set(e, "the latent of '%s' is not finite", path);
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

/* y = x, both of F32; elements of x from `begin` of y on. */
static void copy_to(struct tensor *y, int64_t begin, struct tensor *x)
{
    struct tensor *place = tensor_slice(y, begin, x->shape[0]);
    tensor_copy(place, x);
    tensor_release(place);
}

/* A replay_function. */
static void evaluate(struct tape *t, void *context)
{
    struct evaluation *e = context;
    struct tensor *v = unet_forward(t, e->unet, e->x, e->time, e->embeds);
    copy_to(e->v, 0, v);
    tensor_release(v);
}

static void evaluation_release(struct evaluation *e)
{
    replay_free(e->replay);
    tensor_release(e->x);
    tensor_release(e->time);
    tensor_release(e->embeds);
    tensor_release(e->v);
    free(e);
}

static struct evaluation *evaluation_new(struct run *r, struct tape *t, int64_t rows)
{
    struct evaluation *e = xcalloc(1, sizeof *e);
    struct device *d = t->device;
    e->unet = r->unet;
    e->x = tensor_new(d, DTYPE_F32, DIMS(rows, r->channels, r->height, r->width));
    e->v = tensor_new(d, DTYPE_F32, DIMS(rows, r->channels, r->height, r->width));
    e->time = tensor_new(d, DTYPE_F32, DIMS(rows));
    e->embeds = tensor_new(d, DTYPE_F32, DIMS(rows, unet_sizes(r->unet)->embed_width));
    e->replay = replay_new(t, evaluate, e);
    return e;
}

/* That of so many rows: there are few different numbers, and the last ones stay. */
static struct evaluation *evaluation_of(struct run *r, struct tape *t, int64_t rows)
{
    int i = 0;
    while (i < EVALUATIONS && r->kept[i] && r->kept[i]->x->shape[0] != rows)
        i++;
    if (i == EVALUATIONS) {
        evaluation_release(r->kept[0]);
        memmove(r->kept, r->kept + 1, (EVALUATIONS - 1) * sizeof *r->kept);
        r->kept[--i] = NULL;
    }
    if (!r->kept[i])
        r->kept[i] = evaluation_new(r, t, rows);
    return r->kept[i];
}

static void release_evaluations(struct run *r)
{
    for (int i = 0; i < EVALUATIONS && r->kept[i]; i++) {
        evaluation_release(r->kept[i]);
        r->kept[i] = NULL;
    }
}

/* x for each of k conditions with their embeds: v, valid until the next call. */
static struct tensor *unet_at(const struct batch *b, struct tape *t, struct tensor *x, float time,
                              struct tensor *embeds)
{
    int64_t rows = embeds->shape[0];
    struct evaluation *e = evaluation_of(b->run, t, rows);
    float *times = xmalloc((size_t)rows * sizeof *times);
    for (int64_t i = 0; i < rows; i++)
        times[i] = time;
    tensor_upload(e->time, times);
    free(times);
    for (int64_t i = 0; i < rows; i += b->n)
        copy_to(e->x, i, x);
    copy_to(e->embeds, 0, embeds);
    replay_run(e->replay);
    return e->v;
}

static struct tensor *new_latents(const struct batch *b, struct tape *t)
{
    const struct run *r = b->run;
    return tensor_new(t->device, DTYPE_F32, DIMS(b->n, r->channels, r->height, r->width));
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
        struct tensor *v = unet_at(b, t, x, time, embeds);
        for (int i = 0; i < k; i++) {
            parts[begin + i] = new_latents(b, t);
            struct tensor *part = tensor_slice(v, (int64_t)i * b->n, b->n);
            copy_to(parts[begin + i], 0, part);
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

/* Noise that DDPM and DDIM add: that of an image's index, wherever it stands in its batch. */
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

/* What the sampler begins with: noise as torch draws it, or the init image with that noise. */
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

/* Takes the next images, as many as fit, whose conditions have the same weights. */
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
            if (i == 0) /* the unconditional embed stays zero */
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
    device_synchronize(b->tape->device); /* done, not only begun */
    snprintf(detail, sizeof detail, "%lld of %lld images done", (long long)r->done,
             (long long)r->images);
    progress_update(r->progress, r->done * r->evaluations + (int64_t)done * b->n, detail);
    return !r->o->stop || !*r->o->stop;
}

/* Planar [3, height, width] in about [-1, 1] to bytes: floor(255 * (clamp(x) + 1) / 2). Fails when
 * an element is not finite. */
static int to_pixels(struct image *image, const float *x)
{
    size_t pixels = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < pixels; i++) {
        for (size_t c = 0; c < 3; c++) {
            float v = x[c * pixels + i];
            if (!isfinite(v))
                return -1;
            v = v < -1 ? -1 : v > 1 ? 1 : v;
            image->pixels[3 * i + c] = (uint8_t)floorf(255 * ((v + 1) / 2));
        }
    }
    return 0;
}

static int decode_and_emit(struct run *r, struct tape *t, struct tensor *latent, sample_emit *emit,
                           void *context, struct error *e)
{
    float scale = (float)r->o->autoencoder_scale;
    struct tensor *z = linear_combination(t, 1, &latent, &scale);
    struct tensor *picture = kl_decode(t, r->kl, z);
    tensor_release(z);
    float *x = xmalloc((size_t)tensor_count(picture) * sizeof *x);
    tensor_to_f32(picture, x);
    tensor_release(picture);
    int64_t index = job_index(r, r->done);
    struct image image = {0};
    int status = image_new(&image, r->o->width, r->o->height, 3, 8, e);
    if (status == 0 && to_pixels(&image, x) != 0)
        status = error_set(e, "image %lld of seed %llu is not finite", (long long)index,
                           (unsigned long long)r->o->seed);
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
        release_evaluations(r);
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

int sample_run(struct tape *t, const struct sample_options *o, const struct unet *unet,
               const struct kl *kl, const struct conditionings *conditionings, sample_emit *emit,
               void *context, struct error *e)
{
    int factor = kl_sizes(kl)->factor;
    struct run r = {.o = o,
                    .unet = unet,
                    .kl = kl,
                    .conditionings = conditionings,
                    .channels = unet_sizes(unet)->latent_channels,
                    .height = o->height / factor,
                    .width = o->width / factor,
                    .images = conditionings->count * o->count};
    r.elements = r.channels * r.height * r.width;
    int status = plan_steps(&r, e);
    if (status == 0 && o->init)
        status = encode_init(&r, t, e);
    if (status == 0) {
        r.progress = progress_start("sampling", "evaluations", -1);
        while (status == 0 && r.done < r.images)
            status = run_batch(&r, t, emit, context, e);
        progress_finish(r.progress);
    }
    release_evaluations(&r);
    free(r.init);
    free(r.steps);
    return status;
}
