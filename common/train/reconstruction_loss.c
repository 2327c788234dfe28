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

/* A tensor of one value, weight * factor / divisor. */
static struct tensor *filled(const struct tensor *weight, double factor, double divisor, int ndim,
                             const int64_t *shape)
{
    struct device *d = weight->device;
    struct tensor *t = tensor_new(d, DTYPE_F32, ndim, shape);
    struct fill_scaled_args args = {weight, factor, divisor, t};
    d->backend->fill_scaled(d, &args);
    return t;
}

/* *sum += scale * x; scale: F64 [1], NULL: 1. */
static void add_to(struct tensor **sum, struct tensor *x, const struct tensor *scale)
{
    struct device *d = x->device;
    struct tensor *y = tensor_new(d, DTYPE_F32, x->ndim, x->shape);
    struct linear_combination_args plain = {
        .count = 2, .x = {*sum, x}, .coefficients = {1, 1}, .y = y};
    struct add_scaled_args scaled = {*sum, x, scale, y};
    if (scale)
        d->backend->add_scaled(d, &scaled);
    else
        d->backend->linear_combination(d, &plain);
    tensor_replace(sum, y);
}

/* Adds the gradient of LPIPS to *gradient. */
static void add_perceptual(struct reconstruction_loss *l, const struct reconstruction *r,
                           struct tensor **gradient)
{
    struct tensor *images = leaf_of(r->images, false);
    struct tensor *reconstructions = leaf_of(r->reconstructions, true);
    struct tape t;
    tape_init(&t, r->images->device);
    t.recording = true;
    struct tensor *distances = lpips_distance(&t, l->lpips, images, reconstructions);
    struct tensor *ddistances =
        filled(r->weight, l->options.perceptual_weight, 1, distances->ndim, distances->shape);
    tape_backward(&t, distances, ddistances);
    add_to(gradient, reconstructions->gradient->value, NULL);
    tensor_copy(r->distances, distances);
    tensor_release(distances);
    tensor_release(ddistances);
    tensor_release(images);
    tensor_release(reconstructions);
    tape_release(&t);
}

/* The squares of the gradient by the last kernel, given the gradient by the reconstructions: F64
 * [squares_segments(the kernel's elements)]. */
static struct tensor *last_gradient_squares(const struct reconstruction *r,
                                            const struct tensor *dreconstructions)
{
    struct device *d = r->last->device;
    const int64_t *s = dreconstructions->shape;
    struct tensor *dy = tensor_new(d, r->last->dtype, DIMS(s[0], s[2], s[3], s[1]));
    struct to_nchw_backward_args turn = {dreconstructions, dy};
    d->backend->to_nchw_backward(d, &turn);
    struct tensor *dweight = tensor_new(d, DTYPE_F32, r->last_weight->ndim, r->last_weight->shape);
    struct conv2d_backward_args args = {.forward = {.x = r->last,
                                                    .weight = r->last_weight,
                                                    .y = dy,
                                                    .stride = 1,
                                                    .pad_begin = 1,
                                                    .pad_end = 1},
                                        .dy = dy,
                                        .dweight = dweight,
                                        .fresh = true};
    d->backend->conv2d_backward(d, &args);
    int64_t count = tensor_count(dweight);
    struct tensor *sums = tensor_new(d, DTYPE_F64, DIMS(squares_segments(count)));
    struct square_sums_args squares = {count, dweight->data, sums->data, NULL};
    d->backend->square_sums(d, &squares);
    tensor_release(dy);
    tensor_release(dweight);
    return sums;
}

/* Where in a micro-batch's numbers the means of hinge_loss are, and w. */
enum { GENERATOR = 0, OF_IMAGES = 2, OF_RECONSTRUCTIONS = 4, ADAPTIVE_WEIGHT = 6 };

static void find_hinge(const struct reconstruction *r, const struct tensor *logits, int at,
                       double sign, double scale, struct tensor *dlogits)
{
    struct device *d = logits->device;
    struct tensor *means = tensor_slice(r->numbers, at, 2);
    struct hinge_loss_args args = {logits, sign, scale, means, dlogits};
    d->backend->hinge_loss(d, &args);
    tensor_release(means);
}

/* The adaptive weight, in r->numbers; also returned as a view. */
static struct tensor *find_weight(const struct reconstruction_loss *l,
                                  const struct reconstruction *r, const struct tensor *of_nll,
                                  const struct tensor *of_generator)
{
    struct device *d = r->images->device;
    int64_t n = r->images->shape[0];
    struct tensor *nll = last_gradient_squares(r, of_nll);
    struct tensor *generator = last_gradient_squares(r, of_generator);
    struct tensor *w = tensor_slice(r->numbers, ADAPTIVE_WEIGHT, 1);
    struct adaptive_weight_args args = {
        .nll = nll->data,
        .generator = generator->data,
        .segments = tensor_count(nll),
        .weight = r->weight,
        .images = (double)n,
        .epsilon = WEIGHT_EPS,
        .most = WEIGHT_MOST / (double)(tensor_count(r->images) / n),
        .disc_weight = l->options.disc_weight,
        .w = w,
    };
    d->backend->adaptive_weight(d, &args);
    tensor_release(nll);
    tensor_release(generator);
    return w;
}

/* Adds w times the generator's gradient to *gradient, which is nll's. */
static void add_generator(struct reconstruction_loss *l, const struct reconstruction *r,
                          struct tensor **gradient)
{
    int64_t n = r->images->shape[0];
    struct tensor *reconstructions = leaf_of(r->reconstructions, true);
    struct tape t;
    tape_init(&t, r->images->device);
    t.recording = true;
    struct tensor *logits = patch_discriminator_logits(&t, l->judging.network, reconstructions);
    find_hinge(r, logits, GENERATOR, 1, 0, NULL);
    /* weight * n is the weight of a micro-batch's mean. */
    struct tensor *dlogits =
        filled(r->weight, -(double)n, (double)tensor_count(logits), logits->ndim, logits->shape);
    tape_backward(&t, logits, dlogits);
    struct tensor *dreconstructions = reconstructions->gradient->value;
    struct tensor *w = find_weight(l, r, *gradient, dreconstructions);
    add_to(gradient, dreconstructions, w);
    tensor_release(w);
    tensor_release(logits);
    tensor_release(dlogits);
    tensor_release(reconstructions);
    tape_release(&t);
}

/* Half of the discriminator's loss: the mean of max(0, 1 - sign * logit), halved. Adds its
 * gradients, times `scale`, to those of the parameters, or sets them if t has fresh gradients. */
static void learn(struct reconstruction_loss *l, struct tape *t, const struct reconstruction *r,
                  struct tensor *images, int at, double sign, double scale)
{
    t->recording = true;
    struct tensor *logits = patch_discriminator_logits(t, l->trained.network, images);
    struct tensor *dlogits = tensor_new(t->device, DTYPE_F32, logits->ndim, logits->shape);
    find_hinge(r, logits, at, sign, scale, dlogits);
    tape_backward(t, logits, dlogits);
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
    tape_fresh_gradients(&t);
    learn(l, &t, r, images, OF_IMAGES, 1, scale);
    updater_watch(&l->updater, &t);
    learn(l, &t, r, reconstructions, OF_RECONSTRUCTIONS, -1, scale);
    updater_sum(&l->updater);
    tape_release(&t);
    tensor_release(images);
    tensor_release(reconstructions);
}

bool reconstruction_loss_judges(const struct reconstruction_loss *l, int64_t step)
{
    int64_t start = l->options.disc_start;
    return l->parameters && start >= 0 && step >= start;
}

void reconstruction_loss_begin(struct reconstruction_loss *l, bool judged)
{
    if (judged)
        updater_aim(&l->updater, network_view_loader(&l->trained));
}

void reconstruction_loss_add(struct reconstruction_loss *l, bool judged,
                             const struct reconstruction *r, struct tensor **gradient)
{
    CHECK(tensor_same_shape(r->images, r->reconstructions));
    CHECK(tensor_same_shape(r->images, *gradient) && (*gradient)->dtype == DTYPE_F32);
    if (l->lpips)
        add_perceptual(l, r, gradient);
    if (!judged)
        return;
    add_generator(l, r, gradient);
    train_discriminator(l, r);
}

void reconstruction_loss_end(struct reconstruction_loss *l, bool judged)
{
    if (judged)
        updater_count(&l->updater);
}

void reconstruction_loss_note(struct reconstruction_loss *l, int64_t n, const float *distances,
                              const double *numbers)
{
    for (int64_t i = 0; distances && i < n; i++)
        l->sums.perceptual += (double)distances[i];
    l->images += distances ? n : 0;
    if (!numbers)
        return;
    l->sums.generator -= numbers[GENERATOR];
    l->sums.weight += numbers[ADAPTIVE_WEIGHT];
    l->sums.logit += numbers[OF_IMAGES];
    l->sums.discriminator += numbers[OF_IMAGES + 1];
    l->sums.fake_logit += numbers[OF_RECONSTRUCTIONS];
    l->sums.discriminator += numbers[OF_RECONSTRUCTIONS + 1];
    l->judged++;
}

bool reconstruction_loss_update(struct reconstruction_loss *l, int64_t step, double learning_rate)
{
    if (!reconstruction_loss_judges(l, step))
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

void reconstruction_loss_evaluate(struct reconstruction_loss *l, struct tensor *images,
                                  struct tensor *reconstructions, struct tensor *distances)
{
    struct tape t;
    if (!l->lpips)
        return;
    tape_init(&t, images->device);
    struct tensor *found = lpips_distance(&t, l->lpips, images, reconstructions);
    tensor_copy(distances, found);
    tensor_release(found);
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
