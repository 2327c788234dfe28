#include "common/train/autoencoder_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/train/loss.h"
#include "common/train/network_views.h"
#include "kernels/tape.h"

/* A micro-batch in host memory, one image after another. */
struct work {
    int64_t n, image, latent; /* images; elements of an image, of a latent */
    const float *images;
    float *reconstructions; /* overwritten with their gradient */
    float *moments;         /* overwritten with their gradient */
    float *z;               /* overwritten with its gradient */
    float *noise;           /* NULL: z is the mean */
    bool squared;
    double kl_weight;
    double weight; /* factor of an image's loss in the value that is differentiated */
    struct autoencoder_losses *losses;
};

struct autoencoder_step {
    struct parameters *parameters;
    struct collective *collective;
    struct step_options options;
    struct autoencoder_step_options loss_options;
    struct network_views views;
    bool trains_encoder;
    struct tape encoder, decoder;      /* two: the posterior is sampled between them */
    struct autoencoder_losses *losses; /* [batch * accumulate] */
    struct autoencoder_losses means;   /* of the last update */
    uint64_t *samples, *suspects;
    int64_t micro_batch; /* those done so far in this update */
    int64_t step;        /* its number */
    struct updater updater;
    struct lpips *lpips;
    struct reconstruction_loss *further; /* further terms of the loss; NULL: none */
};

bool autoencoder_is_encoder(const char *name)
{
    return strncmp(name, "decoder.", strlen("decoder.")) != 0 &&
           strncmp(name, "post_quant_conv.", strlen("post_quant_conv.")) != 0;
}

const struct kl_sizes *autoencoder_step_sizes(const struct autoencoder_step *s)
{
    return kl_sizes(s->views.trained.network);
}

static int check(const struct kl_sizes *sizes, struct error *e)
{
    if (!sizes->has_encoder || !sizes->has_decoder)
        return error_set(e, "it has no %s", sizes->has_encoder ? "decoder" : "encoder");
    if (sizes->image_channels != 3)
        return error_set(e, "it is for images with %" PRId64 " channels, not 3",
                         sizes->image_channels);
    return 0;
}

static int open_further(struct autoencoder_step *s, struct error *e)
{
    const struct autoencoder_step_options *o = &s->loss_options;
    struct reconstruction_loss_options further = {.perceptual_weight = o->perceptual_weight,
                                                  .disc_weight = o->disc_weight,
                                                  .disc_start = o->disc_start,
                                                  .accumulate = s->options.accumulate};
    if (!o->lpips && !s->parameters->companion)
        return 0;
    if (o->lpips && lpips_load(&s->lpips, o->lpips, s->parameters->device, e) != 0)
        return -1;
    return reconstruction_loss_open(&s->further, &further, s->lpips, s->parameters->companion,
                                    s->collective, e);
}

int autoencoder_step_open(struct autoencoder_step **out, struct parameters *p, struct collective *c,
                          const struct step_options *o, const struct autoencoder_step_options *a,
                          struct error *e)
{
    CHECK(o->batch >= 1 && o->accumulate >= 1 && a->kl_weight >= 0);
    if (p->net != NET_KL)
        return error_set(e, "not an autoencoder");
    struct autoencoder_step *s = xcalloc(1, sizeof *s);
    s->parameters = p;
    s->collective = c;
    s->options = *o;
    s->loss_options = *a;
    tape_init(&s->encoder, p->device);
    tape_init(&s->decoder, p->device);
    updater_init(&s->updater, p, c, &o->adamw, o->clip_grad, o->accumulate);
    if (network_views_open(&s->views, &kl_network, p, e) != 0 ||
        check(autoencoder_step_sizes(s), e) != 0 || open_further(s, e) != 0) {
        autoencoder_step_close(s);
        return -1;
    }
    const struct parameter *first = parameters_find(p, "encoder.conv_in.weight");
    s->trains_encoder = first && first->trained;
    size_t count = (size_t)(o->batch * o->accumulate);
    s->losses = xcalloc(count, sizeof *s->losses);
    s->samples = xcalloc(count, sizeof *s->samples);
    s->suspects = xcalloc(count, sizeof *s->suspects);
    *out = s;
    return 0;
}

void autoencoder_step_close(struct autoencoder_step *s)
{
    if (!s)
        return;
    tape_release(&s->encoder);
    tape_release(&s->decoder);
    updater_release(&s->updater);
    network_views_release(&s->views);
    reconstruction_loss_close(s->further);
    lpips_free(s->lpips);
    free(s->losses);
    free(s->samples);
    free(s->suspects);
    free(s);
}

struct updater *autoencoder_step_updater(struct autoencoder_step *s)
{
    return &s->updater;
}

static int64_t effective_batch(const struct autoencoder_step *s)
{
    return step_effective_batch(&s->options, s->collective);
}

static void work_init(struct work *w, const struct autoencoder_step *s,
                      const struct autoencoder_batch *b, struct autoencoder_losses *losses)
{
    const struct kl_sizes *sizes = autoencoder_step_sizes(s);
    CHECK(b->height % sizes->factor == 0 && b->width % sizes->factor == 0);
    int64_t places = (int64_t)(b->height / sizes->factor) * (b->width / sizes->factor);
    *w = (struct work){
        .n = b->n,
        .image = 3 * (int64_t)b->height * b->width,
        .latent = sizes->latent_channels * places,
        .images = b->images,
        .squared = s->loss_options.l2,
        .kl_weight = s->trains_encoder ? s->loss_options.kl_weight : 0,
        .losses = losses,
    };
    w->reconstructions = xcalloc((size_t)(w->n * w->image), sizeof *w->reconstructions);
    w->moments = xcalloc((size_t)(2 * w->n * w->latent), sizeof *w->moments);
    w->z = xcalloc((size_t)(w->n * w->latent), sizeof *w->z);
}

static void work_release(struct work *w)
{
    free(w->reconstructions);
    free(w->moments);
    free(w->z);
    free(w->noise);
}

static const float *noise_of(const struct work *w, int64_t i)
{
    return w->noise ? w->noise + i * w->latent : NULL;
}

static void draw_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct work *w = arg;
    for (int64_t i = begin; i < end; i++)
        w->losses[i].kl = posterior_draw(w->z + i * w->latent, w->moments + 2 * i * w->latent,
                                         noise_of(w, i), w->latent);
}

static void judge_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct work *w = arg;
    for (int64_t i = begin; i < end; i++) {
        struct autoencoder_losses *l = &w->losses[i];
        l->reconstruction =
            reconstruction_error(w->images + i * w->image, w->reconstructions + i * w->image,
                                 w->image, w->squared, w->weight);
        l->total = l->reconstruction + w->kl_weight * l->kl;
    }
}

static void draw_back_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct work *w = arg;
    for (int64_t i = begin; i < end; i++)
        posterior_draw_backward(w->moments + 2 * i * w->latent, noise_of(w, i),
                                w->z + i * w->latent, w->latent, w->kl_weight * w->weight);
}

/* Returns the moments; they and z are in w, too. */
static struct tensor *encode(struct tape *t, const struct kl *k, struct work *w,
                             const struct autoencoder_batch *b)
{
    struct tensor *images = tensor_new(t->device, DTYPE_F32, DIMS(b->n, 3, b->height, b->width));
    tensor_upload(images, b->images);
    struct tensor *moments = kl_encode(t, k, images);
    tensor_release(images);
    tensor_to_f32(moments, w->moments);
    parallel_for(w->n, 1, draw_some, w);
    return moments;
}

/* Decodes w->z, which it copies to the device as *z. The reconstructions are in w, too. last: see
 * kl_decode_keeping. */
static struct tensor *decode(struct tape *t, const struct kl *k, struct work *w,
                             const struct tensor *moments, struct tensor **z, bool wants_dz,
                             struct tensor **last)
{
    const int64_t *m = moments->shape;
    *z = tensor_new(t->device, DTYPE_F32, DIMS(m[0], m[1] / 2, m[2], m[3]));
    tensor_upload(*z, w->z);
    if (wants_dz)
        tensor_require_gradient(*z);
    struct tensor *reconstructions = kl_decode_keeping(t, k, *z, last);
    tensor_to_f32(reconstructions, w->reconstructions);
    return reconstructions;
}

static void upload_as(struct tensor **out, const struct tensor *like, const float *host)
{
    *out = tensor_new(like->device, DTYPE_F32, like->ndim, like->shape);
    tensor_upload(*out, host);
}

static void add_perceptual(const struct autoencoder_step *s, struct work *w,
                           const double *distances)
{
    for (int64_t i = 0; i < w->n; i++) {
        w->losses[i].perceptual = distances[i];
        w->losses[i].total += s->loss_options.perceptual_weight * distances[i];
    }
}

/* Adds the gradients of the further terms to *dreconstructions, and LPIPS to the losses. */
static void judge_further(struct autoencoder_step *s, int64_t step, struct work *w,
                          struct tensor *reconstructions, struct tensor *last,
                          struct tensor **dreconstructions)
{
    double *distances = xcalloc((size_t)w->n, sizeof *distances);
    struct reconstruction r = {.reconstructions = reconstructions,
                               .last = last,
                               .last_weight = kl_last_weight(s->views.trained.network)};
    upload_as(&r.images, reconstructions, w->images);
    reconstruction_loss_add(s->further, step, &r, w->weight, dreconstructions, distances);
    add_perceptual(s, w, distances);
    tensor_release(r.images);
    free(distances);
}

/* Computes the losses and the gradient by the reconstructions. */
static void judge(struct autoencoder_step *s, int64_t step, struct work *w,
                  struct tensor *reconstructions, struct tensor *last,
                  struct tensor **dreconstructions)
{
    parallel_for(w->n, 1, judge_some, w);
    upload_as(dreconstructions, reconstructions, w->reconstructions);
    if (s->further)
        judge_further(s, step, w, reconstructions, last, dreconstructions);
}

static void train(struct autoencoder_step *s, int64_t step, struct work *w,
                  const struct autoencoder_batch *b)
{
    struct kl *k = network_views_train(&s->views);
    struct tensor *z, *dreconstructions, *dmoments, *last = NULL;
    updater_aim(&s->updater, network_view_loader(&s->views.trained));
    tape_fresh_gradients(&s->encoder);
    tape_fresh_gradients(&s->decoder);
    updater_watch(&s->updater, &s->encoder);
    updater_watch(&s->updater, &s->decoder);
    s->encoder.recording = s->trains_encoder;
    struct tensor *moments = encode(&s->encoder, k, w, b);
    s->encoder.recording = false;
    s->decoder.recording = true;
    struct tensor *reconstructions =
        decode(&s->decoder, k, w, moments, &z, s->trains_encoder, s->further ? &last : NULL);
    s->decoder.recording = false;
    judge(s, step, w, reconstructions, last, &dreconstructions);
    tensor_release(last);
    tape_backward(&s->decoder, reconstructions, dreconstructions);
    tensor_release(reconstructions);
    tensor_release(dreconstructions);
    if (s->trains_encoder) {
        tensor_to_f32(z->gradient->value, w->z);
        parallel_for(w->n, 1, draw_back_some, w);
        upload_as(&dmoments, moments, w->moments);
        tape_backward(&s->encoder, moments, dmoments);
        tensor_release(dmoments);
    }
    tensor_release(z);
    tensor_release(moments);
    updater_add(&s->updater);
}

void autoencoder_step_micro_batch_drawn(struct autoencoder_step *s, int64_t step,
                                        const struct autoencoder_batch *b, const float *noise)
{
    const struct step_options *o = &s->options;
    CHECK(step >= 0 && b->n == o->batch && s->micro_batch < o->accumulate);
    struct work w;
    work_init(&w, s, b, s->losses + s->micro_batch * o->batch);
    w.weight = s->updater.loss_scale.scale / (double)effective_batch(s);
    size_t count = (size_t)(w.n * w.latent);
    w.noise = memcpy(xmalloc(count * sizeof *w.noise), noise, count * sizeof *w.noise);
    memcpy(s->samples + s->micro_batch * o->batch, b->samples, (size_t)b->n * sizeof *b->samples);
    s->step = step;
    train(s, step, &w, b);
    work_release(&w);
    s->micro_batch++;
}

void autoencoder_step_micro_batch(struct autoencoder_step *s, int64_t step,
                                  const struct autoencoder_batch *b)
{
    const struct kl_sizes *sizes = autoencoder_step_sizes(s);
    int64_t latent =
        sizes->latent_channels * (b->height / sizes->factor) * (int64_t)(b->width / sizes->factor);
    float *noise = xmalloc((size_t)(b->n * latent) * sizeof *noise);
    CHECK(step >= 0 && step < (int64_t)1 << 26);
    for (int64_t i = 0; i < b->n; i++)
        rng_normal(noise + i * latent, (size_t)latent, s->options.seed, RNG_POSTERIOR,
                   (uint32_t)step, b->samples[i], 0);
    autoencoder_step_micro_batch_drawn(s, step, b, noise);
    free(noise);
}

static bool is_finite(const struct autoencoder_losses *l)
{
    return isfinite(l->total) && isfinite(l->kl);
}

void autoencoder_step_update(struct autoencoder_step *s, double learning_rate, double ema_decay,
                             struct step_result *r)
{
    int64_t count = s->options.batch * s->options.accumulate;
    CHECK(s->micro_batch == s->options.accumulate);
    s->micro_batch = 0;
    struct update_result update;
    updater_apply(&s->updater, learning_rate, ema_decay, &update);
    if (update.applied)
        network_views_refresh(&s->views);
    if (s->further)
        reconstruction_loss_update(s->further, s->step, s->loss_options.disc_rate * learning_rate);
    double(*values)[5] = xcalloc((size_t)count, sizeof *values), sums[5];
    for (int64_t i = 0; i < count; i++) {
        const struct autoencoder_losses *l = &s->losses[i];
        const double own[5] = {l->total, l->reconstruction, l->kl, !is_finite(l), l->perceptual};
        memcpy(values[i], own, sizeof own);
    }
    step_sum(&s->options, s->collective, values[0], 5, sums);
    free(values);
    double all = (double)effective_batch(s);
    s->means = (struct autoencoder_losses){.total = sums[0] / all,
                                           .reconstruction = sums[1] / all,
                                           .kl = sums[2] / all,
                                           .perceptual = sums[4] / all};
    bool finite = sums[3] == 0;
    bool failed = step_judge(r, &s->updater, &update, s->means.total, finite);
    r->suspects = s->suspects;
    for (int64_t i = 0; i < count && failed; i++)
        if (finite || !is_finite(&s->losses[i]))
            s->suspects[r->suspect_count++] = s->samples[i];
}

struct autoencoder_losses autoencoder_step_losses(const struct autoencoder_step *s)
{
    return s->means;
}

void autoencoder_step_reconstruct(struct autoencoder_step *s, enum parameter_array which,
                                  const struct autoencoder_batch *b, float *reconstructions,
                                  struct autoencoder_losses *losses)
{
    struct kl *k = network_views_evaluate(&s->views, which);
    struct work w;
    struct tensor *z;
    work_init(&w, s, b, losses);
    struct tensor *moments = encode(&s->encoder, k, &w, b);
    tensor_release(decode(&s->decoder, k, &w, moments, &z, false, NULL));
    memcpy(reconstructions, w.reconstructions, (size_t)(w.n * w.image) * sizeof *reconstructions);
    parallel_for(w.n, 1, judge_some, &w);
    if (s->lpips) {
        double *distances = xcalloc((size_t)w.n, sizeof *distances);
        reconstruction_loss_evaluate(s->further, b->n, b->height, b->width, b->images,
                                     reconstructions, distances);
        add_perceptual(s, &w, distances);
        free(distances);
    }
    tensor_release(moments);
    tensor_release(z);
    work_release(&w);
}

struct reconstruction_numbers autoencoder_step_numbers(struct autoencoder_step *s)
{
    return s->further ? reconstruction_loss_numbers(s->further)
                      : (struct reconstruction_numbers){0};
}

int64_t autoencoder_step_memory(const struct parameters *p, const struct step_options *o,
                                const struct autoencoder_step_options *a, const struct device *like,
                                int ranks, int height, int width)
{
    struct device *d = device_open_dry(like);
    struct collective collective = collective_dry(ranks);
    struct parameters *dry = parameters_like(p, d);
    struct autoencoder_step *s;
    struct error e;
    struct autoencoder_step_options from_start = *a;
    if (a->disc_start > 0)
        from_start.disc_start = 0;
    CHECK(autoencoder_step_open(&s, dry, &collective, o, &from_start, &e) == 0);
    size_t numbers = 3 * (size_t)o->batch * (size_t)height * (size_t)width;
    float *images = xcalloc(numbers, sizeof *images);
    uint64_t *samples = xcalloc((size_t)o->batch, sizeof *samples);
    struct autoencoder_batch batch = {
        .n = o->batch, .height = height, .width = width, .images = images, .samples = samples};
    for (int64_t i = 0; i < o->accumulate; i++)
        autoencoder_step_micro_batch(s, 0, &batch);
    struct step_result r;
    autoencoder_step_update(s, 0, 0, &r);
    struct autoencoder_losses *losses = xcalloc((size_t)o->batch, sizeof *losses);
    autoencoder_step_reconstruct(s, ARRAY_EMA, &batch, images, losses);
    int64_t bytes = device_dry_memory(d);
    free(losses);
    free(images);
    free(samples);
    autoencoder_step_close(s);
    parameters_free(dry);
    device_close(d);
    return bytes;
}
