#include "common/train/autoencoder_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/train/autoencoder_buffers.h"
#include "common/train/network_views.h"
#include "kernels/replay.h"
#include "kernels/tape.h"

/* A micro-batch's work, of which there are several kinds. */
struct work {
    struct autoencoder_step *step;
    bool judged; /* by the discriminator */
    struct replay *replay;
};

struct autoencoder_step {
    struct parameters *parameters;
    struct collective *collective;
    struct step_options options;
    struct autoencoder_step_options loss_options;
    struct network_views views;
    bool trains_encoder;
    struct tape encoder, decoder;       /* two: the posterior is sampled between them */
    struct autoencoder_buffers buffers; /* n is 0 until the first micro-batch */
    struct work work[2][2]; /* judged or not; of the first micro-batch of an update, others */
    struct tensor *outputs; /* of all micro-batches of an update */
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
    updater_write_copies(&s->updater, network_view_loader(&s->views.trained));
    const struct parameter *first = parameters_find(p, "encoder.conv_in.weight");
    s->trains_encoder = first && first->trained;
    size_t count = (size_t)(o->batch * o->accumulate);
    s->losses = xcalloc(count, sizeof *s->losses);
    s->samples = xcalloc(count, sizeof *s->samples);
    s->suspects = xcalloc(count, sizeof *s->suspects);
    s->outputs =
        tensor_new(p->device, DTYPE_F64, DIMS(o->accumulate * autoencoder_outputs(o->batch)));
    for (int i = 0; i < 4; i++)
        s->work[i / 2][i % 2] = (struct work){.step = s, .judged = i / 2};
    *out = s;
    return 0;
}

void autoencoder_step_close(struct autoencoder_step *s)
{
    if (!s)
        return;
    for (int i = 0; i < 4; i++)
        replay_free(s->work[i / 2][i % 2].replay);
    autoencoder_buffers_release(&s->buffers);
    tensor_release(s->outputs);
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

static double kl_weight(const struct autoencoder_step *s)
{
    return s->trains_encoder ? s->loss_options.kl_weight : 0;
}

static struct tensor *new_latents(struct device *d, const struct tensor *moments)
{
    const int64_t *m = moments->shape;
    return tensor_new(d, DTYPE_F32, DIMS(m[0], m[1] / 2, m[2], m[3]));
}

/* The sample that is decoded. noise NULL: the mode. */
static struct tensor *draw(const struct autoencoder_buffers *b, const struct tensor *moments,
                           const struct tensor *noise)
{
    struct device *d = moments->device;
    struct tensor *z = new_latents(d, moments);
    struct posterior_args args = {moments, noise, z, b->kl};
    d->backend->posterior(d, &args);
    return z;
}

/* The reconstruction error; dreconstructions may be NULL. */
static void judge(const struct autoencoder_step *s, const struct autoencoder_buffers *b,
                  const struct tensor *reconstructions, struct tensor *dreconstructions)
{
    struct device *d = reconstructions->device;
    struct reconstruction_error_args args = {.x = b->images,
                                             .y = reconstructions,
                                             .weight = b->weight,
                                             .squared = s->loss_options.l2,
                                             .loss = b->errors,
                                             .dy = dreconstructions};
    d->backend->reconstruction_error(d, &args);
}

/* Adds the gradients of the further terms to *dreconstructions. */
static void judge_further(const struct autoencoder_step *s, bool judged,
                          struct tensor *reconstructions, struct tensor *last,
                          struct tensor **dreconstructions)
{
    const struct autoencoder_buffers *b = &s->buffers;
    struct reconstruction r = {.images = b->images,
                               .reconstructions = reconstructions,
                               .last = last,
                               .last_weight = kl_last_weight(s->views.trained.network),
                               .weight = b->weight,
                               .distances = b->distances,
                               .numbers = b->numbers};
    reconstruction_loss_add(s->further, judged, &r, dreconstructions);
}

/* Forward of the decoder, losses and backward. wants_dz: leaves the gradient by z in z. */
static void train_decoder(struct autoencoder_step *s, bool judged, struct tensor *z)
{
    struct tensor *last = NULL;
    s->decoder.recording = true;
    struct tensor *y =
        kl_decode_keeping(&s->decoder, s->views.trained.network, z, s->further ? &last : NULL);
    s->decoder.recording = false;
    struct tensor *dy = tensor_new(y->device, DTYPE_F32, y->ndim, y->shape);
    judge(s, &s->buffers, y, dy);
    if (s->further)
        judge_further(s, judged, y, last, &dy);
    tensor_release(last);
    tape_backward(&s->decoder, y, dy);
    tensor_release(y);
    tensor_release(dy);
}

static void train_encoder(struct autoencoder_step *s, struct tensor *moments,
                          const struct tensor *noise, const struct tensor *dz)
{
    struct device *d = moments->device;
    struct tensor *dmoments = tensor_new(d, DTYPE_F32, moments->ndim, moments->shape);
    struct posterior_backward_args args = {.moments = moments,
                                           .noise = noise,
                                           .dz = dz,
                                           .weight = s->buffers.weight,
                                           .kl_weight = kl_weight(s),
                                           .dmoments = dmoments};
    d->backend->posterior_backward(d, &args);
    tape_backward(&s->encoder, moments, dmoments);
    tensor_release(dmoments);
}

static void train(struct autoencoder_step *s, bool judged, const struct tensor *given_noise)
{
    struct device *d = s->parameters->device;
    tape_fresh_gradients(&s->encoder);
    tape_fresh_gradients(&s->decoder);
    updater_watch(&s->updater, &s->encoder);
    updater_watch(&s->updater, &s->decoder);
    s->encoder.recording = s->trains_encoder;
    struct tensor *moments = kl_encode(&s->encoder, s->views.trained.network, s->buffers.images);
    s->encoder.recording = false;
    struct tensor *drawn = given_noise ? NULL : new_latents(d, moments);
    const struct tensor *noise = given_noise ? given_noise : drawn;
    struct normals_args normals = {s->options.seed, RNG_POSTERIOR, s->buffers.draws, drawn};
    if (drawn)
        d->backend->normals(d, &normals);
    struct tensor *z = draw(&s->buffers, moments, noise);
    if (s->trains_encoder)
        tensor_require_gradient(z);
    train_decoder(s, judged, z);
    if (s->trains_encoder)
        train_encoder(s, moments, noise, z->gradient->value);
    tensor_release(drawn);
    tensor_release(z);
    tensor_release(moments);
    updater_sum(&s->updater);
}

/* A replay_function: a micro-batch whose noise depends on the samples. */
static void draw_and_train(struct tape *t, void *context)
{
    const struct work *w = context;
    train(w->step, w->judged, NULL);
}

static void upload_draws(const struct autoencoder_buffers *to, const struct autoencoder_batch *b,
                         int64_t step)
{
    int64_t *draws = xmalloc((size_t)(2 * b->n) * sizeof *draws);
    for (int64_t i = 0; i < b->n; i++) {
        draws[2 * i] = (int64_t)b->samples[i];
        draws[2 * i + 1] = step;
    }
    tensor_upload(to->draws, draws);
    free(draws);
}

/* Whether the discriminator takes part. */
static bool is_judged(const struct autoencoder_step *s, int64_t step)
{
    return s->further && reconstruction_loss_judges(s->further, step);
}

static void micro_batch_begin(struct autoencoder_step *s, int64_t step,
                              const struct autoencoder_batch *b)
{
    const struct step_options *o = &s->options;
    struct autoencoder_buffers *to = &s->buffers;
    int factor = autoencoder_step_sizes(s)->factor;
    CHECK(step >= 0 && step < (int64_t)1 << 26 && b->n == o->batch);
    CHECK(s->micro_batch < o->accumulate && b->height % factor == 0 && b->width % factor == 0);
    if (to->n == 0)
        autoencoder_buffers_make(to, s->parameters->device, b->n, b->height, b->width);
    CHECK(b->height == to->height && b->width == to->width);
    s->step = step;
    memcpy(s->samples + s->micro_batch * o->batch, b->samples, (size_t)b->n * sizeof *b->samples);
    network_views_train(&s->views);
    updater_aim(&s->updater, network_view_loader(&s->views.trained));
    if (s->further)
        reconstruction_loss_begin(s->further, is_judged(s, step));
    double weight = s->updater.loss_scale.scale / (double)effective_batch(s);
    tensor_upload(to->images, b->images);
    tensor_upload(to->weight, &weight);
}

static void micro_batch_end(struct autoencoder_step *s)
{
    struct device *d = s->parameters->device;
    int64_t count = tensor_count(s->buffers.outputs);
    struct copy_args keep = {.from = s->buffers.outputs->data,
                             .to = (double *)s->outputs->data + s->micro_batch * count,
                             .bytes = (size_t)count * sizeof(double)};
    d->backend->copy(d, &keep);
    if (s->further)
        reconstruction_loss_end(s->further, is_judged(s, s->step));
    updater_count(&s->updater);
    s->micro_batch++;
}

void autoencoder_step_micro_batch_drawn(struct autoencoder_step *s, int64_t step,
                                        const struct autoencoder_batch *b, const float *noise)
{
    const struct kl_sizes *sizes = autoencoder_step_sizes(s);
    micro_batch_begin(s, step, b);
    struct tensor *given = tensor_from_f32(
        s->parameters->device,
        DIMS(b->n, sizes->latent_channels, b->height / sizes->factor, b->width / sizes->factor),
        noise);
    train(s, is_judged(s, step), given);
    tensor_release(given);
    micro_batch_end(s);
}

void autoencoder_step_micro_batch(struct autoencoder_step *s, int64_t step,
                                  const struct autoencoder_batch *b)
{
    struct work *w = &s->work[is_judged(s, step)][!updater_is_at_first(&s->updater)];
    if (!w->replay) {
        w->replay = replay_new(&s->decoder, draw_and_train, w);
        replay_agree(w->replay, step_agree, s->collective);
    }
    micro_batch_begin(s, step, b);
    upload_draws(&s->buffers, b, step);
    replay_run(w->replay);
    micro_batch_end(s);
}

/* Fills in n images' losses, given a micro-batch's outputs. */
static void read_losses(const struct autoencoder_step *s, const double *outputs, int64_t n,
                        struct autoencoder_losses *losses)
{
    const float *distances = (const float *)(outputs + 2 * n + RECONSTRUCTION_NUMBERS);
    for (int64_t i = 0; i < n; i++) {
        losses[i] = (struct autoencoder_losses){.reconstruction = outputs[i], .kl = outputs[n + i]};
        losses[i].total = losses[i].reconstruction + kl_weight(s) * losses[i].kl;
        if (s->lpips)
            losses[i].perceptual = (double)distances[i];
        if (s->lpips)
            losses[i].total += s->loss_options.perceptual_weight * losses[i].perceptual;
    }
}

static void fetch_losses(struct autoencoder_step *s)
{
    struct device *d = s->parameters->device;
    int64_t n = s->options.batch, count = autoencoder_outputs(n);
    size_t bytes = (size_t)(s->options.accumulate * count) * sizeof(double);
    double *host = xmalloc(bytes);
    d->backend->download(d, host, s->outputs->data, bytes);
    for (int64_t k = 0; k < s->options.accumulate; k++) {
        const double *outputs = host + k * count, *numbers = outputs + 2 * n;
        read_losses(s, outputs, n, s->losses + k * n);
        if (s->further)
            reconstruction_loss_note(
                s->further, n, s->lpips ? (const float *)(numbers + RECONSTRUCTION_NUMBERS) : NULL,
                is_judged(s, s->step) ? numbers : NULL);
    }
    free(host);
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
    if (update.applied && !updater_writes_copies(&s->updater))
        network_views_refresh(&s->views);
    if (s->further)
        reconstruction_loss_update(s->further, s->step, s->loss_options.disc_rate * learning_rate);
    fetch_losses(s);
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
    struct device *d = s->parameters->device;
    struct autoencoder_buffers own;
    autoencoder_buffers_make(&own, d, b->n, b->height, b->width);
    tensor_upload(own.images, b->images);
    struct tensor *moments = kl_encode(&s->encoder, k, own.images);
    struct tensor *z = draw(&own, moments, NULL), *y = kl_decode(&s->decoder, k, z);
    judge(s, &own, y, NULL);
    if (s->lpips)
        reconstruction_loss_evaluate(s->further, own.images, y, own.distances);
    size_t bytes = (size_t)tensor_count(own.outputs) * sizeof(double);
    double *host = xmalloc(bytes);
    d->backend->download(d, host, own.outputs->data, bytes);
    tensor_to_f32(y, reconstructions);
    read_losses(s, host, b->n, losses);
    free(host);
    tensor_release(moments);
    tensor_release(z);
    tensor_release(y);
    autoencoder_buffers_release(&own);
}

struct reconstruction_numbers autoencoder_step_numbers(struct autoencoder_step *s)
{
    return s->further ? reconstruction_loss_numbers(s->further)
                      : (struct reconstruction_numbers){0};
}
