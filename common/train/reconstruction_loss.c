#include "common/train/reconstruction_loss.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/network_views.h"
#include "kernels/tape.h"

#define WEIGHT_EPS  1e-4
#define WEIGHT_MOST 1e4
/* The loss scale of the discriminator's own loss in fp16. It makes gradients by logits, and because
 * of the norms also those by the layers before, close to 1. */
#define FP16_SCALE 4096.0

static const struct adamw_options adam = {
    .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8, .weight_decay = 0};

struct reconstruction_loss {
    struct reconstruction_loss_options options;
    const struct lpips *lpips;
    struct parameters *parameters; /* the discriminator's, or NULL */
    struct network_view trained,
        judging; /* judging: gradients flow through it, not to its parameters */
    struct collective *collective;
    struct updater updater;
    struct reconstruction_numbers sums;
    int64_t images, judged; /* terms in sums: images in perceptual, micro-batches in the others */
};

static void refresh(struct reconstruction_loss *l)
{
    loader_refresh(network_view_loader(&l->trained));
    loader_refresh(network_view_loader(&l->judging));
}

static int open_discriminator(struct reconstruction_loss *l, struct error *e)
{
    if (l->parameters->net != NET_DISCRIMINATOR)
        return error_set(e, "not a discriminator");
    const struct network_functions *net = &patch_discriminator_network;
    updater_init(&l->updater, l->parameters, l->collective, &adam, 0, l->options.accumulate);
    if (network_view_open(&l->trained, net, l->parameters, ARRAY_WEIGHTS, e) != 0 ||
        network_view_open(&l->judging, net, l->parameters, ARRAY_WEIGHTS, e) != 0)
        return -1;
    if (patch_discriminator_sizes(l->trained.network)->image_channels != 3)
        return error_set(e, "the discriminator is not for images with 3 channels");
    parameters_bind(l->parameters, network_view_loader(&l->trained));
    refresh(l);
    if (l->parameters->device->compute == DTYPE_F16)
        updater_set_loss_scale(&l->updater, (struct loss_scale){FP16_SCALE, 0});
    return 0;
}

int reconstruction_loss_open(struct reconstruction_loss **out,
                             const struct reconstruction_loss_options *o, const struct lpips *lpips,
                             struct parameters *discriminator, struct collective *c,
                             struct error *e)
{
    CHECK(o->accumulate >= 1 && o->perceptual_weight >= 0 && o->disc_weight >= 0);
    struct reconstruction_loss *l = xcalloc(1, sizeof *l);
    l->options = *o;
    l->lpips = lpips;
    l->parameters = discriminator;
    l->collective = c;
    if (discriminator && open_discriminator(l, e) != 0) {
        reconstruction_loss_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

void reconstruction_loss_close(struct reconstruction_loss *l)
{
    if (!l)
        return;
    network_view_release(&l->trained);
    network_view_release(&l->judging);
    updater_release(&l->updater);
    free(l);
}

/* A view of x that no tape has recorded, with a gradient of its own if wanted. */
static struct tensor *leaf_of(struct tensor *x, bool wants_gradient)
{
    struct tensor *leaf = tensor_reshape(x, x->ndim, x->shape);
    if (wants_gradient)
        tensor_require_gradient(leaf);
    return leaf;
}

static struct tensor *filled(struct device *d, int ndim, const int64_t *shape, double value)
{
    struct tensor *t = tensor_new(d, DTYPE_F32, ndim, shape);
    struct fill_args args = {tensor_count(t), t->data, (float)value};
    d->backend->fill(d, &args);
    return t;
}

/* *sum += factor * x */
static void add_scaled(struct tensor **sum, struct tensor *x, double factor)
{
    struct tape t;
    tape_init(&t, x->device);
    tensor_replace(sum, linear_combination(&t, 2, (struct tensor *[]){*sum, x},
                                           (const float[]){1, (float)factor}));
    tape_release(&t);
}

/* Adds the gradient of LPIPS to *gradient. */
static void add_perceptual(struct reconstruction_loss *l, const struct reconstruction *r,
                           double weight, struct tensor **gradient, double *distances_out)
{
    struct device *d = r->images->device;
    int64_t n = r->images->shape[0];
    struct tensor *images = leaf_of(r->images, false);
    struct tensor *reconstructions = leaf_of(r->reconstructions, true);
    struct tape t;
    tape_init(&t, d);
    t.recording = true;
    struct tensor *distances = lpips_distance(&t, l->lpips, images, reconstructions);
    struct tensor *ddistances = filled(d, DIMS(n), weight * l->options.perceptual_weight);
    float *host = xmalloc((size_t)n * sizeof *host);
    tape_backward(&t, distances, ddistances);
    add_scaled(gradient, reconstructions->gradient->value, 1);
    tensor_to_f32(distances, host);
    for (int64_t i = 0; i < n; i++) {
        distances_out[i] += (double)host[i];
        l->sums.perceptual += (double)host[i];
    }
    l->images += n;
    free(host);
    tensor_release(distances);
    tensor_release(ddistances);
    tensor_release(images);
    tensor_release(reconstructions);
    tape_release(&t);
}

/* L2 */
static double norm_of(const struct tensor *x)
{
    int64_t segments = squares_segments(tensor_count(x));
    size_t bytes = (size_t)segments * sizeof(double), granted;
    double *sums = device_allocate(x->device, bytes, &granted);
    double *host = xcalloc((size_t)segments, sizeof *host), sum = 0;
    struct square_sums_args args = {tensor_count(x), x->data, sums};
    x->device->backend->square_sums(x->device, &args);
    x->device->backend->download(x->device, host, sums, bytes);
    for (int64_t i = 0; i < segments; i++)
        sum += host[i];
    device_release(x->device, sums, granted);
    free(host);
    return sqrt(sum);
}

/* The L2 norm of the gradient by the last kernel, given the gradient by the reconstructions. */
static double last_gradient_norm(const struct reconstruction *r,
                                 const struct tensor *dreconstructions)
{
    struct device *d = r->last->device;
    const int64_t *s = dreconstructions->shape;
    struct tensor *dy = tensor_new(d, r->last->dtype, DIMS(s[0], s[2], s[3], s[1]));
    struct to_nchw_backward_args turn = {dreconstructions, dy};
    d->backend->to_nchw_backward(d, &turn);
    struct tensor *dweight = tensor_new(d, DTYPE_F32, r->last_weight->ndim, r->last_weight->shape);
    struct conv2d_backward_args args = {.forward = {r->last, r->last_weight, NULL, dy, 1, 1, 1},
                                        .dy = dy,
                                        .dweight = dweight,
                                        .fresh = true};
    d->backend->conv2d_backward(d, &args);
    double norm = norm_of(dweight);
    tensor_release(dy);
    tensor_release(dweight);
    return norm;
}

static double mean_of(const struct tensor *t, float *host)
{
    int64_t count = tensor_count(t);
    double sum = 0;
    tensor_to_f32(t, host);
    for (int64_t i = 0; i < count; i++)
        sum += (double)host[i];
    return sum / (double)count;
}

static float *host_for(const struct tensor *t)
{
    return xcalloc((size_t)tensor_count(t), sizeof(float));
}

/* Adds w times the generator's gradient to *gradient, which is nll's. */
static void add_generator(struct reconstruction_loss *l, const struct reconstruction *r,
                          double weight, struct tensor **gradient)
{
    struct device *d = r->images->device;
    int64_t n = r->images->shape[0], numbers = tensor_count(r->images) / n;
    struct tensor *reconstructions = leaf_of(r->reconstructions, true);
    struct tape t;
    tape_init(&t, d);
    t.recording = true;
    struct tensor *logits = patch_discriminator_logits(&t, l->judging.network, reconstructions);
    float *host = host_for(logits);
    double scale = weight * (double)n; /* the weight of a micro-batch's mean */
    struct tensor *dlogits =
        filled(d, logits->ndim, logits->shape, -scale / (double)tensor_count(logits));
    tape_backward(&t, logits, dlogits);
    struct tensor *dreconstructions = reconstructions->gradient->value;
    double of_nll = last_gradient_norm(r, *gradient),
           of_logits = last_gradient_norm(r, dreconstructions);
    double ratio = of_nll / (of_logits + WEIGHT_EPS * scale), most = WEIGHT_MOST / (double)numbers;
    double w = l->options.disc_weight * (ratio > most ? most : ratio);
    add_scaled(gradient, dreconstructions, w);
    l->sums.generator -= mean_of(logits, host);
    l->sums.weight += w;
    free(host);
    tensor_release(logits);
    tensor_release(dlogits);
    tensor_release(reconstructions);
    tape_release(&t);
}

/* Half of the discriminator's loss: the mean of max(0, 1 - sign * logit), halved. Adds its
 * gradients, times `scale`, to those of the parameters, or sets them if t has fresh gradients. */
static void learn(struct reconstruction_loss *l, struct tape *t, struct tensor *images, double sign,
                  double scale, double *mean)
{
    t->recording = true;
    struct tensor *logits = patch_discriminator_logits(t, l->trained.network, images);
    int64_t count = tensor_count(logits);
    float *host = host_for(logits);
    double sum = 0;
    *mean += mean_of(logits, host);
    for (int64_t i = 0; i < count; i++) {
        double below = 1 - sign * (double)host[i];
        sum += below > 0 ? below : below <= 0 ? 0 : NAN;
        host[i] = below > 0 ? (float)(-sign * scale / 2 / (double)count) : below <= 0 ? 0 : NAN;
    }
    l->sums.discriminator += sum / 2 / (double)count;
    struct tensor *dlogits = tensor_from_f32(t->device, logits->ndim, logits->shape, host);
    tape_backward(t, logits, dlogits);
    free(host);
    tensor_release(dlogits);
    tensor_release(logits);
}

static void train_discriminator(struct reconstruction_loss *l, const struct reconstruction *r)
{
    struct tensor *images = leaf_of(r->images, false);
    struct tensor *reconstructions = leaf_of(r->reconstructions, false);
    double scale = l->updater.loss_scale.scale /
                   (double)(l->options.accumulate * (int64_t)l->collective->size);
    struct tape t;
    tape_init(&t, images->device);
    updater_aim(&l->updater, network_view_loader(&l->trained));
    tape_fresh_gradients(&t);
    learn(l, &t, images, 1, scale, &l->sums.logit);
    updater_watch(&l->updater, &t);
    learn(l, &t, reconstructions, -1, scale, &l->sums.fake_logit);
    updater_add(&l->updater);
    tape_release(&t);
    tensor_release(images);
    tensor_release(reconstructions);
}

static bool judges(const struct reconstruction_loss *l, int64_t step)
{
    int64_t start = l->options.disc_start;
    return l->parameters && start >= 0 && step >= start;
}

void reconstruction_loss_add(struct reconstruction_loss *l, int64_t step,
                             const struct reconstruction *r, double weight,
                             struct tensor **gradient, double *distances)
{
    CHECK(tensor_same_shape(r->images, r->reconstructions));
    CHECK(tensor_same_shape(r->images, *gradient) && (*gradient)->dtype == DTYPE_F32);
    if (l->lpips)
        add_perceptual(l, r, weight, gradient, distances);
    if (!judges(l, step))
        return;
    add_generator(l, r, weight, gradient);
    train_discriminator(l, r);
    l->judged++;
}

bool reconstruction_loss_update(struct reconstruction_loss *l, int64_t step, double learning_rate)
{
    if (!judges(l, step))
        return false;
    struct update_result result;
    updater_apply(&l->updater, learning_rate, 0, &result);
    l->sums.gradient_norm = result.gradient_norm;
    l->sums.updates += result.applied;
    l->sums.rejected += !result.applied;
    if (result.applied)
        refresh(l);
    return result.applied;
}

void reconstruction_loss_evaluate(struct reconstruction_loss *l, int64_t n, int height, int width,
                                  const float *images, const float *reconstructions,
                                  double *distances)
{
    if (!l->lpips)
        return;
    struct device *d = lpips_device(l->lpips);
    struct tensor *x = tensor_from_f32(d, DIMS(n, 3, height, width), images);
    struct tensor *y = tensor_from_f32(d, DIMS(n, 3, height, width), reconstructions);
    struct tape t;
    tape_init(&t, d);
    struct tensor *found = lpips_distance(&t, l->lpips, x, y);
    float *host = host_for(found);
    tensor_to_f32(found, host);
    for (int64_t i = 0; i < n; i++)
        distances[i] += (double)host[i];
    free(host);
    tensor_release(found);
    tensor_release(x);
    tensor_release(y);
    tape_release(&t);
}

struct reconstruction_numbers reconstruction_loss_numbers(struct reconstruction_loss *l)
{
    struct reconstruction_numbers n = l->sums;
    double sums[] = {n.perceptual, n.generator,  n.weight,          n.discriminator,
                     n.logit,      n.fake_logit, (double)l->images, (double)l->judged};
    collective_sum(l->collective, sums, sizeof sums / sizeof *sums);
    double images = sums[6] > 0 ? sums[6] : NAN, judged = sums[7] > 0 ? sums[7] : NAN;
    n.perceptual = sums[0] / images;
    n.generator = sums[1] / judged;
    n.weight = sums[2] / judged;
    n.discriminator = sums[3] / judged;
    n.logit = sums[4] / judged;
    n.fake_logit = sums[5] / judged;
    l->sums = (struct reconstruction_numbers){.gradient_norm = n.gradient_norm};
    l->images = l->judged = 0;
    return n;
}
