#include "kernels/backward.h"

#include "common/base/message.h"
#include "kernels/record.h"

/* Each function computes the gradients of an op's inputs from its record and the gradient of its
 * output. The backend adds gradients of parameters in place; gradients of activations are new
 * tensors, which are added to their slot. */

/* Whether this gradient must be overwritten now. */
static bool is_fresh(const struct tape *t, const struct gradient *slot)
{
    return slot && slot->parameter && t->fresh && slot->pass != t->pass;
}

static bool must_overwrite(const struct tape *t, struct gradient *slot)
{
    if (!is_fresh(t, slot))
        return false;
    slot->pass = t->pass;
    return true;
}

static bool are_both_fresh(const struct tape *t, const struct gradient *a, const struct gradient *b)
{
    return is_fresh(t, a) && is_fresh(t, b) && a != b;
}

/* The tensor to add to, or NULL. */
static struct tensor *parameter_gradient(struct tape *t, struct gradient *slot)
{
    if (!slot || !slot->parameter)
        return NULL;
    if (must_overwrite(t, slot)) {
        struct fill_args zero = {tensor_count(slot->value), slot->value->data, 0};
        t->device->backend->fill(t->device, &zero);
    }
    return slot->value;
}

/* The tensor to add to, or to overwrite if *fresh, or NULL. */
static struct tensor *gradient_to_write(struct tape *t, struct gradient *slot, bool *fresh)
{
    *fresh = must_overwrite(t, slot);
    return slot && slot->parameter ? slot->value : NULL;
}

/* A new tensor for an activation's gradient, or NULL if it is not needed. */
static struct tensor *wanted(struct tape *t, const struct gradient *slot, enum dtype dtype,
                             int ndim, const int64_t *shape)
{
    return slot ? tensor_new(t->device, dtype, ndim, shape) : NULL;
}

static struct tensor *wanted_first(struct tape *t, const struct record *r)
{
    return wanted(t, r->inputs[0], r->dtype, r->ndim, r->shape);
}

/* The same, or the present gradient to add to (*adds) if the op can and nobody else holds it.
 * give() puts it back. */
static struct tensor *wanted_sum(struct tape *t, const struct record *r, bool *adds)
{
    struct gradient *slot = r->inputs[0];
    struct tensor *now = slot ? slot->value : NULL;
    *adds = now && device_fuses(t->device) && now->references == 1 && !now->base &&
            !now->borrowed && now->dtype == r->dtype;
    if (!*adds)
        return wanted_first(t, r);
    slot->value = NULL;
    return now;
}

static void give(struct tape *t, struct gradient *slot, struct tensor *g)
{
    if (g)
        gradient_add(t, slot, g);
}

#define RUN(t, name, ...)                                                                          \
    do {                                                                                           \
        struct name##_backward_args args_ = {__VA_ARGS__};                                         \
        (t)->device->backend->name##_backward((t)->device, &args_);                                \
    } while (0)

/* A second product would round the sum again. */
static void check_compact(const struct tape *t, const struct tensor *dweight, bool fresh)
{
    bool compact = dweight && (dweight->channels_last || dweight->dtype != DTYPE_F32);
    CHECK(!compact || (fresh && t->device->backend->convert_weights));
}

/* The residual's gradient is the output's. */
static void give_residual(struct tape *t, struct gradient *slot, struct tensor *dy)
{
    if (slot)
        gradient_add(t, slot, tensor_retain(dy));
}

void backward_conv2d(struct tape *t, struct record *r, struct tensor *dy)
{
    bool fresh, fresh_bias, adds;
    struct tensor *dx = wanted_sum(t, r, &adds);
    r->forward.conv2d.y = dy; /* for its shape */
    struct tensor *dweight = gradient_to_write(t, r->inputs[1], &fresh);
    check_compact(t, dweight, fresh);
    struct gradient *bias = r->has_bias_gradient ? NULL : r->inputs[2];
    struct tensor *dbias = gradient_to_write(t, bias, &fresh_bias);
    RUN(t, conv2d, r->forward.conv2d, dy, dx, dweight, dbias, fresh, fresh_bias, adds);
    give(t, r->inputs[0], dx);
    give_residual(t, r->inputs[3], dy);
}

void backward_linear(struct tape *t, struct record *r, struct tensor *dy)
{
    bool fresh, fresh_bias, adds;
    struct tensor *dx = wanted_sum(t, r, &adds);
    if (!r->forward.linear.y)
        r->forward.linear.y = dy;
    struct tensor *dweight = gradient_to_write(t, r->inputs[1], &fresh);
    check_compact(t, dweight, fresh);
    struct tensor *dbias = gradient_to_write(t, r->inputs[2], &fresh_bias);
    RUN(t, linear, r->forward.linear, dy, dx, dweight, dbias, fresh, fresh_bias, adds);
    give(t, r->inputs[0], dx);
    give_residual(t, r->inputs[3], dy);
}

/* The tensor for the gradient of some columns of a modulation. Each column belongs to one group
 * norm, so all of them write into the same tensor. */
static struct tensor *columns_gradient(struct tape *t, struct gradient *slot,
                                       const struct tensor *m, int64_t columns)
{
    if (!m || !slot)
        return NULL;
    if (slot->value && slot->columns)
        return tensor_retain(slot->value);
    struct tensor *g = tensor_new(t->device, m->dtype, m->ndim, m->shape);
    if (columns < tensor_last(m)) {
        size_t bytes = (size_t)tensor_count(m) * dtype_size(m->dtype);
        CHECK(bytes % sizeof(float) == 0);
        struct fill_args zero = {(int64_t)(bytes / sizeof(float)), g->data, 0};
        t->device->backend->fill(t->device, &zero);
    }
    return g;
}

/* If r normalizes a convolution's output, and nothing else reads that: the convolution's bias,
 * whose gradient is the sum of dx; else NULL. */
static struct gradient *bias_before(struct tape *t, const struct record *r)
{
    struct record *before = t->count > 0 ? &t->records[t->count - 1] : NULL;
    const struct gradient *between = r->inputs[0];
    if (!before || !device_fuses(t->device) || before->backward != backward_conv2d ||
        before->output != between || between->uses != 1 || between->value)
        return NULL;
    struct gradient *bias = before->inputs[2];
    before->has_bias_gradient = bias && bias->parameter;
    return before->has_bias_gradient ? bias : NULL;
}

void backward_group_norm(struct tape *t, struct record *r, struct tensor *dy)
{
    bool adds, fresh_sums;
    struct tensor *dx_sums = gradient_to_write(t, bias_before(t, r), &fresh_sums);
    struct tensor *dx = wanted_sum(t, r, &adds);
    const struct group_norm_args *f = &r->forward.group_norm;
    struct gradient *slot = r->inputs[3];
    struct tensor *dmodulation = columns_gradient(t, slot, f->modulation, 2 * tensor_last(f->x));
    bool fresh = are_both_fresh(t, r->inputs[1], r->inputs[2]);
    struct tensor *dgamma =
        fresh ? gradient_to_write(t, r->inputs[1], &fresh) : parameter_gradient(t, r->inputs[1]);
    struct tensor *dbeta =
        fresh ? gradient_to_write(t, r->inputs[2], &fresh) : parameter_gradient(t, r->inputs[2]);
    RUN(t, group_norm, r->forward.group_norm, dy, dx, dgamma, dbeta, dmodulation, fresh, adds,
        dx_sums, fresh_sums);
    give(t, r->inputs[0], dx);
    give_residual(t, r->inputs[4], dy);
    if (dmodulation && dmodulation == slot->value) {
        tensor_release(dmodulation);
    } else if (dmodulation) {
        slot->columns = !slot->value;
        gradient_add(t, slot, dmodulation);
    }
}

void backward_layer_norm(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    r->forward.layer_norm.y = dy;
    RUN(t, layer_norm, r->forward.layer_norm, dy, dx, parameter_gradient(t, r->inputs[1]),
        parameter_gradient(t, r->inputs[2]));
    give(t, r->inputs[0], dx);
}

void backward_attention(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *d[3];
    r->forward.attention.y = dy;
    for (int i = 0; i < 3; i++)
        d[i] = tensor_new(t->device, r->dtype, r->ndim, r->shape);
    RUN(t, attention, r->forward.attention, dy, d[0]->data, d[1]->data, d[2]->data);
    for (int i = 0; i < 3; i++)
        if (r->inputs[i])
            gradient_add(t, r->inputs[i], d[i]);
        else
            tensor_release(d[i]);
}

void backward_attention_qkv(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dqkv = wanted_first(t, r);
    int64_t c = tensor_last(dqkv) / 3;
    char *dq = dqkv->data;
    size_t part = (size_t)c * dtype_size(r->dtype);
    r->forward.attention.y = dy;
    RUN(t, attention, r->forward.attention, dy, dq, dq + part, dq + 2 * part);
    give(t, r->inputs[0], dqkv);
}

void backward_reshape(struct tape *t, struct record *r, struct tensor *dy)
{
    gradient_add(t, r->inputs[0], tensor_reshape(dy, r->ndim, r->shape));
}

void backward_activation(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    r->forward.activation.y = dy;
    RUN(t, activation, r->forward.activation, dy, dx);
    give(t, r->inputs[0], dx);
}

void backward_cast(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    struct cast_args args = {dy, dx};
    t->device->backend->cast(t->device, &args);
    give(t, r->inputs[0], dx);
}

void backward_add(struct tape *t, struct record *r, struct tensor *dy)
{
    for (int i = 0; i < 2; i++)
        if (r->inputs[i])
            gradient_add(t, r->inputs[i], tensor_retain(dy));
}

void backward_add_rows(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *drows = parameter_gradient(t, r->inputs[1]);
    if (drows)
        RUN(t, add_rows, dy, drows);
    if (r->inputs[0])
        gradient_add(t, r->inputs[0], tensor_retain(dy));
}

void backward_concat(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *d[2];
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < r->ndim; i++)
        shape[i] = r->shape[i];
    for (int i = 0; i < 2; i++) {
        shape[r->ndim - 1] = r->last[i];
        d[i] = wanted(t, r->inputs[i], r->dtype, r->ndim, shape);
    }
    RUN(t, concat, dy, d[0], d[1]);
    for (int i = 0; i < 2; i++)
        give(t, r->inputs[i], d[i]);
}

void backward_append_planes(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    RUN(t, append_planes, dy, dx);
    give(t, r->inputs[0], dx);
}

void backward_prepend_row(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    RUN(t, prepend_row, dy, dx, parameter_gradient(t, r->inputs[1]));
    give(t, r->inputs[0], dx);
}

void backward_take_row(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    RUN(t, take_row, dy, dx, r->forward.take_row.index);
    give(t, r->inputs[0], dx);
}

void backward_embedding(struct tape *t, struct record *r, struct tensor *dy)
{
    r->forward.embedding.y = dy;
    RUN(t, embedding, r->forward.embedding, dy, parameter_gradient(t, r->inputs[0]));
}

void backward_l2_normalize(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    r->forward.l2_normalize.y = dy;
    RUN(t, l2_normalize, r->forward.l2_normalize, dy, dx);
    give(t, r->inputs[0], dx);
}

void backward_avg_pool2x2(struct tape *t, struct record *r, struct tensor *dy)
{
    bool adds;
    struct tensor *dx = wanted_sum(t, r, &adds);
    RUN(t, avg_pool2x2, dy, dx, adds);
    give(t, r->inputs[0], dx);
}

#define BACKWARD_OF_SHAPE(name)                                                                    \
    void backward_##name(struct tape *t, struct record *r, struct tensor *dy)                      \
    {                                                                                              \
        struct tensor *dx = wanted_first(t, r);                                                    \
        RUN(t, name, dy, dx);                                                                      \
        give(t, r->inputs[0], dx);                                                                 \
    }
BACKWARD_OF_SHAPE(upsample_nearest2x)
BACKWARD_OF_SHAPE(to_nchw)

void backward_upsample_bilinear2x(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    int64_t beside = tensor_last(dy) - r->shape[3];
    struct tensor *dbeside =
        wanted(t, r->inputs[1], r->dtype, DIMS(dy->shape[0], dy->shape[1], dy->shape[2], beside));
    RUN(t, upsample_bilinear2x, dy, dx, dbeside);
    give(t, r->inputs[0], dx);
    give(t, r->inputs[1], dbeside);
}

void backward_max_pool2x2(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    r->forward.max_pool2x2.y = dy;
    RUN(t, max_pool2x2, r->forward.max_pool2x2, dy, dx);
    give(t, r->inputs[0], dx);
}

void backward_feature_distance(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *db = wanted_first(t, r);
    r->forward.feature_distance.y = dy;
    RUN(t, feature_distance, r->forward.feature_distance, dy, db);
    give(t, r->inputs[0], db);
}

void backward_to_nhwc(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tensor *dx = wanted_first(t, r);
    RUN(t, to_nhwc, dy, dx, r->forward.to_nhwc.scale ? r->scale : NULL);
    give(t, r->inputs[0], dx);
}

void backward_linear_combination(struct tape *t, struct record *r, struct tensor *dy)
{
    const struct linear_combination_args *f = &r->forward.linear_combination;
    for (int i = 0; i < f->count; i++)
        if (r->inputs[i])
            gradient_add(t, r->inputs[i], linear_combination(t, 1, &dy, &f->coefficients[i]));
}
