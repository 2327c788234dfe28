#include "kernels/ops.h"

#include <string.h>

#include "common/base/message.h"
#include "kernels/record.h"

/* The public functions of the ops. Each checks shapes, so that backends may rely on them, runs the
 * backend and records what the backward pass will read. */
#define RUN(tape, name, ...)                                                                       \
    do {                                                                                           \
        struct name##_args args_ = {__VA_ARGS__};                                                  \
        (tape)->device->backend->name((tape)->device, &args_);                                     \
    } while (0)

/* RECORD(tape, y, name, inputs ...) returns the new record or NULL. */
#define RECORD(tape, y, name, ...)                                                                 \
    record_new(tape, y, backward_##name,                                                           \
               (int)(sizeof((struct tensor *[]){__VA_ARGS__}) / sizeof(struct tensor *)),          \
               (struct tensor *[]){__VA_ARGS__})

/* An output of x's type. */
static struct tensor *output(struct tape *t, const struct tensor *x, int ndim, const int64_t *shape)
{
    return tensor_new(t->device, x->dtype, ndim, shape);
}

static struct tensor *output_like(struct tape *t, const struct tensor *x)
{
    return output(t, x, x->ndim, x->shape);
}

static bool is_weight(const struct tensor *w)
{
    return w->dtype == DTYPE_F32 || w->dtype == DTYPE_F16 || w->dtype == DTYPE_BF16;
}

/* A parameter vector: F32 with this many elements. */
static bool is_vector(const struct tensor *v, int64_t count)
{
    return v->dtype == DTYPE_F32 && tensor_count(v) == count;
}

static bool is_f32(const struct tensor *x, int ndim)
{
    return x->dtype == DTYPE_F32 && x->ndim == ndim;
}

static bool is_float(const struct tensor *x)
{
    return x->dtype == DTYPE_F32 || x->dtype == x->device->compute;
}

static bool is_activation(const struct tensor *x, int ndim)
{
    return is_float(x) && x->ndim == ndim;
}

static struct tensor *run_conv2d(struct tape *t, struct tensor *x, struct tensor *weight,
                                 struct tensor *bias, int stride, int pad_begin, int pad_end,
                                 struct tensor *residual)
{
    CHECK(is_activation(x, 4) && weight->ndim == 4 && is_weight(weight));
    CHECK(weight->shape[1] == x->shape[3] && stride >= 1 && pad_begin >= 0 && pad_end >= 0);
    CHECK(!bias || is_vector(bias, weight->shape[0]));
    int64_t height = x->shape[1] + pad_begin + pad_end - weight->shape[2];
    int64_t width = x->shape[2] + pad_begin + pad_end - weight->shape[3];
    CHECK(height >= 0 && width >= 0);
    struct tensor *y =
        output(t, x, DIMS(x->shape[0], height / stride + 1, width / stride + 1, weight->shape[0]));
    CHECK(!residual || (residual->dtype == x->dtype && tensor_same_shape(residual, y)));
    RUN(t, conv2d, x, weight, bias, y, stride, pad_begin, pad_end, residual);
    struct record *r = RECORD(t, y, conv2d, x, weight, bias, residual);
    if (r) {
        r->forward.conv2d =
            (struct conv2d_args){x, weight, bias, NULL, stride, pad_begin, pad_end, NULL};
        record_keep(r, x);
        record_keep(r, weight);
    }
    return y;
}

struct tensor *conv2d(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      int stride, int pad_begin, int pad_end)
{
    return run_conv2d(t, x, weight, bias, stride, pad_begin, pad_end, NULL);
}

struct tensor *conv2d_add(struct tape *t, struct tensor *residual, struct tensor *x,
                          struct tensor *weight, struct tensor *bias, int stride, int pad_begin,
                          int pad_end)
{
    if (device_fuses(t->device))
        return run_conv2d(t, x, weight, bias, stride, pad_begin, pad_end, residual);
    struct tensor *y = conv2d(t, x, weight, bias, stride, pad_begin, pad_end);
    tensor_replace(&y, add(t, residual, y));
    return y;
}

static struct tensor *run_linear(struct tape *t, struct tensor *x, struct tensor *weight,
                                 struct tensor *bias, enum activation_kind act,
                                 struct tensor *residual)
{
    CHECK(is_float(x) && is_weight(weight) && weight->ndim >= 2);
    CHECK(weight->shape[1] == tensor_last(x));
    CHECK(tensor_count(weight) == weight->shape[0] * weight->shape[1]);
    CHECK(!bias || is_vector(bias, weight->shape[0]));
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        shape[i] = x->shape[i];
    shape[x->ndim - 1] = weight->shape[0];
    /* linear_backward supports only ReLU; other activations become a separate op. */
    enum activation_kind apart =
        (t->recording || t->training) && act != ACTIVATION_RELU ? act : ACTIVATION_NONE;
    if (apart != ACTIVATION_NONE)
        act = ACTIVATION_NONE;
    struct tensor *y = output(t, x, x->ndim, shape);
    CHECK(!residual || (residual->dtype == x->dtype && tensor_same_shape(residual, y)));
    RUN(t, linear, x, weight, bias, y, act, residual);
    struct record *r = RECORD(t, y, linear, x, weight, bias, residual);
    if (r) {
        r->forward.linear = (struct linear_args){x, weight, bias, NULL, act, NULL};
        record_keep(r, x);
        record_keep(r, weight);
        if (act == ACTIVATION_RELU) {
            r->forward.linear.y = y;
            record_keep(r, y);
        }
    }
    if (apart != ACTIVATION_NONE)
        tensor_replace(&y, activation(t, y, apart));
    return y;
}

struct tensor *linear(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      enum activation_kind act)
{
    return run_linear(t, x, weight, bias, act, NULL);
}

struct tensor *linear_add(struct tape *t, struct tensor *residual, struct tensor *x,
                          struct tensor *weight, struct tensor *bias)
{
    if (device_fuses(t->device))
        return run_linear(t, x, weight, bias, ACTIVATION_NONE, residual);
    struct tensor *y = linear(t, x, weight, bias, ACTIVATION_NONE);
    tensor_replace(&y, add(t, residual, y));
    return y;
}

/* What the backward pass reads: without fusing, y instead of statistics. */
static void keep_group_norm(struct record *r, const struct group_norm_args *a, struct tensor *y,
                            bool fuses)
{
    r->forward.group_norm = *a;
    r->forward.group_norm.residual = NULL;
    r->forward.group_norm.y = fuses ? NULL : y;
    record_keep(r, (struct tensor *)a->x);
    record_keep(r, (struct tensor *)a->gamma);
    record_keep(r, (struct tensor *)a->beta);
    record_keep(r, (struct tensor *)a->modulation);
    record_keep(r, fuses ? a->statistics : y);
}

static struct tensor *run_group_norm(struct tape *t, struct tensor *x, int groups, float eps,
                                     struct tensor *gamma, struct tensor *beta,
                                     struct tensor *modulation, int64_t modulation_begin,
                                     enum activation_kind act, struct tensor *residual)
{
    CHECK(is_activation(x, 4));
    int64_t c = x->shape[3];
    CHECK(groups >= 1 && c % groups == 0 && !gamma == !beta);
    CHECK(!gamma || (is_vector(gamma, c) && is_vector(beta, c)));
    CHECK(!modulation || (modulation->dtype == x->dtype && modulation->ndim == 2 &&
                          modulation->shape[0] == x->shape[0] && modulation_begin >= 0 &&
                          modulation_begin + 2 * c <= modulation->shape[1]));
    CHECK(!residual || (residual->dtype == x->dtype && tensor_same_shape(residual, x)));
    bool fuses = device_fuses(t->device);
    struct tensor *y = output_like(t, x), *statistics = NULL;
    if (fuses && t->recording)
        statistics = tensor_new(t->device, DTYPE_F32, DIMS(x->shape[0], groups, 3));
    struct group_norm_args args = {
        x, gamma, beta, modulation, y, groups, eps, act, modulation_begin, residual, statistics};
    t->device->backend->group_norm(t->device, &args);
    struct record *r = RECORD(t, y, group_norm, x, gamma, beta, modulation, residual);
    if (r)
        keep_group_norm(r, &args, y, fuses);
    tensor_release(statistics);
    return y;
}

struct tensor *group_norm(struct tape *t, struct tensor *x, int groups, float eps,
                          struct tensor *gamma, struct tensor *beta, struct tensor *modulation,
                          int64_t modulation_begin, enum activation_kind act)
{
    return run_group_norm(t, x, groups, eps, gamma, beta, modulation, modulation_begin, act, NULL);
}

struct tensor *group_norm_add(struct tape *t, struct tensor *residual, struct tensor *x, int groups,
                              float eps, struct tensor *gamma, struct tensor *beta,
                              struct tensor *modulation, int64_t modulation_begin,
                              enum activation_kind act)
{
    if (device_fuses(t->device))
        return run_group_norm(t, x, groups, eps, gamma, beta, modulation, modulation_begin, act,
                              residual);
    struct tensor *y =
        group_norm(t, x, groups, eps, gamma, beta, modulation, modulation_begin, act);
    tensor_replace(&y, add(t, y, residual));
    return y;
}

struct tensor *batch_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta, enum activation_kind act)
{
    CHECK(is_activation(x, 4));
    int64_t n = x->shape[0], h = x->shape[1], w = x->shape[2], c = x->shape[3];
    struct tensor *tall = reshape(t, x, DIMS(1, n * h, w, c));
    struct tensor *y = group_norm(t, tall, (int)c, eps, gamma, beta, NULL, 0, act);
    tensor_release(tall);
    tensor_replace(&y, reshape(t, y, x->ndim, x->shape));
    return y;
}

struct tensor *layer_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta)
{
    CHECK(is_float(x));
    CHECK(is_vector(gamma, tensor_last(x)) && is_vector(beta, tensor_last(x)));
    struct tensor *y = output_like(t, x);
    RUN(t, layer_norm, x, gamma, beta, y, eps);
    struct record *r = RECORD(t, y, layer_norm, x, gamma, beta);
    if (r) {
        r->forward.layer_norm = (struct layer_norm_args){x, gamma, beta, NULL, eps};
        record_keep(r, x);
        record_keep(r, gamma);
    }
    return y;
}

struct tensor *attention(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                         int heads, struct tensor *uniform)
{
    CHECK(is_activation(q, 3) && k->dtype == q->dtype && v->dtype == q->dtype);
    CHECK(tensor_same_shape(q, k) && tensor_same_shape(q, v));
    int64_t n = q->shape[0], s = q->shape[1], c = q->shape[2];
    CHECK(heads >= 1 && c % heads == 0);
    CHECK(!uniform || (uniform->dtype == DTYPE_I32 && tensor_count(uniform) == n * s));
    struct tensor *y = output_like(t, q);
    RUN(t, attention, q->data, k->data, v->data, c, c, c, n, s, heads, c / heads, uniform, y);
    struct record *r = RECORD(t, y, attention, q, k, v);
    if (r) {
        r->forward.attention = (struct attention_args){q->data, k->data,   v->data, c,   c, c, n, s,
                                                       heads,   c / heads, uniform, NULL};
        record_keep(r, q);
        record_keep(r, k);
        record_keep(r, v);
        record_keep(r, uniform);
    }
    return y;
}

struct tensor *attention_qkv(struct tape *t, struct tensor *qkv, int heads)
{
    CHECK(is_float(qkv) && qkv->ndim >= 3 && tensor_last(qkv) % 3 == 0);
    int64_t n = qkv->shape[0], c = tensor_last(qkv) / 3, s = tensor_rows(qkv) / n;
    CHECK(heads >= 1 && c % heads == 0);
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < qkv->ndim; i++)
        shape[i] = qkv->shape[i];
    shape[qkv->ndim - 1] = c;
    struct tensor *y = output(t, qkv, qkv->ndim, shape);
    const char *q = qkv->data;
    size_t part = (size_t)c * dtype_size(qkv->dtype);
    RUN(t, attention, q, q + part, q + 2 * part, 3 * c, 3 * c, 3 * c, n, s, heads, c / heads, NULL,
        y);
    struct record *r = RECORD(t, y, attention_qkv, qkv);
    if (r) {
        r->forward.attention = (struct attention_args){
            q, q + part, q + 2 * part, 3 * c, 3 * c, 3 * c, n, s, heads, c / heads, NULL, NULL};
        record_keep(r, qkv);
    }
    return y;
}

struct tensor *reshape(struct tape *t, struct tensor *x, int ndim, const int64_t *shape)
{
    struct tensor *y = tensor_reshape(x, ndim, shape);
    RECORD(t, y, reshape, x);
    return y;
}

struct tensor *activation(struct tape *t, struct tensor *x, enum activation_kind kind)
{
    CHECK(is_float(x));
    struct tensor *y = output_like(t, x);
    RUN(t, activation, x, y, kind);
    struct record *r = RECORD(t, y, activation, x);
    if (r) {
        r->forward.activation = (struct activation_args){x, NULL, kind};
        record_keep(r, x);
    }
    return y;
}

struct tensor *cast(struct tape *t, struct tensor *x, enum dtype dtype)
{
    CHECK(is_float(x) && (dtype == DTYPE_F32 || dtype == t->device->compute));
    if (x->dtype == dtype)
        return tensor_retain(x);
    struct tensor *y = tensor_new(t->device, dtype, x->ndim, x->shape);
    RUN(t, cast, x, y);
    RECORD(t, y, cast, x);
    return y;
}

struct tensor *cast_to_compute(struct tape *t, struct tensor *x)
{
    return cast(t, x, t->device->compute);
}

struct tensor *add(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(is_float(a) && a->dtype == b->dtype && tensor_same_shape(a, b));
    struct tensor *y = output_like(t, a);
    RUN(t, add, a, b, y);
    RECORD(t, y, add, a, b);
    return y;
}

struct tensor *add_rows(struct tape *t, struct tensor *x, struct tensor *rows)
{
    CHECK(is_activation(x, 3) && is_vector(rows, x->shape[1] * x->shape[2]));
    struct tensor *y = output_like(t, x);
    RUN(t, add_rows, x, rows, y);
    RECORD(t, y, add_rows, x, rows);
    return y;
}

struct tensor *concat(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(is_float(a) && a->dtype == b->dtype && a->ndim == b->ndim);
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < a->ndim; i++) {
        shape[i] = a->shape[i];
        CHECK(i == a->ndim - 1 || a->shape[i] == b->shape[i]);
    }
    shape[a->ndim - 1] += tensor_last(b);
    struct tensor *y = output(t, a, a->ndim, shape);
    RUN(t, concat, a, b, y);
    struct record *r = RECORD(t, y, concat, a, b);
    if (r) {
        r->last[0] = tensor_last(a);
        r->last[1] = tensor_last(b);
    }
    return y;
}

struct tensor *append_planes(struct tape *t, struct tensor *x, struct tensor *features)
{
    CHECK(is_activation(x, 4) && features->ndim == 2 && features->dtype == x->dtype);
    CHECK(features->shape[0] == x->shape[0]);
    struct tensor *y =
        output(t, x, DIMS(x->shape[0], x->shape[1], x->shape[2], x->shape[3] + features->shape[1]));
    RUN(t, append_planes, x, features, y);
    CHECK(!t->recording || !features->gradient);
    RECORD(t, y, append_planes, x);
    return y;
}

struct tensor *prepend_row(struct tape *t, struct tensor *x, struct tensor *row)
{
    CHECK(is_activation(x, 3) && is_vector(row, x->shape[2]));
    struct tensor *y = output(t, x, DIMS(x->shape[0], x->shape[1] + 1, x->shape[2]));
    RUN(t, prepend_row, x, row, y);
    RECORD(t, y, prepend_row, x, row);
    return y;
}

struct tensor *take_row(struct tape *t, struct tensor *x, int64_t index)
{
    CHECK(is_activation(x, 3) && index >= 0 && index < x->shape[1]);
    struct tensor *y = output(t, x, DIMS(x->shape[0], x->shape[2]));
    RUN(t, take_row, x, y, index);
    struct record *r = RECORD(t, y, take_row, x);
    if (r)
        r->forward.take_row.index = index;
    return y;
}

struct tensor *embedding(struct tape *t, struct tensor *tokens, struct tensor *table)
{
    CHECK(tokens->dtype == DTYPE_I32 && tokens->ndim == 2);
    CHECK(table->ndim == 2 && is_weight(table));
    struct tensor *y = tensor_new(t->device, t->device->compute,
                                  DIMS(tokens->shape[0], tokens->shape[1], table->shape[1]));
    RUN(t, embedding, tokens, table, y);
    struct record *r = RECORD(t, y, embedding, table);
    if (r) {
        r->forward.embedding = (struct embedding_args){tokens, table, NULL};
        record_keep(r, tokens);
        record_keep(r, table);
    }
    return y;
}

struct tensor *fourier_features(struct tape *t, struct tensor *x, struct tensor *weight)
{
    CHECK(is_f32(x, 1) && is_f32(weight, 2) && weight->shape[1] == 1);
    struct tensor *y =
        tensor_new(t->device, t->device->compute, DIMS(x->shape[0], 2 * weight->shape[0]));
    RUN(t, fourier_features, x, weight, y);
    return y;
}

struct tensor *l2_normalize(struct tape *t, struct tensor *x, float eps, float scale)
{
    CHECK(is_float(x) && eps > 0);
    struct tensor *y = output_like(t, x);
    RUN(t, l2_normalize, x, y, eps, scale);
    struct record *r = RECORD(t, y, l2_normalize, x);
    if (r) {
        r->forward.l2_normalize = (struct l2_normalize_args){x, NULL, eps, scale};
        record_keep(r, x);
    }
    return y;
}

struct tensor *avg_pool2x2(struct tape *t, struct tensor *x)
{
    CHECK(is_activation(x, 4) && x->shape[1] % 2 == 0 && x->shape[2] % 2 == 0);
    struct tensor *y =
        output(t, x, DIMS(x->shape[0], x->shape[1] / 2, x->shape[2] / 2, x->shape[3]));
    RUN(t, avg_pool2x2, x, y);
    RECORD(t, y, avg_pool2x2, x);
    return y;
}

struct tensor *max_pool2x2(struct tape *t, struct tensor *x)
{
    CHECK(is_activation(x, 4) && x->shape[1] >= 2 && x->shape[2] >= 2);
    struct tensor *y =
        output(t, x, DIMS(x->shape[0], x->shape[1] / 2, x->shape[2] / 2, x->shape[3]));
    RUN(t, max_pool2x2, x, y);
    struct record *r = RECORD(t, y, max_pool2x2, x);
    if (r) {
        r->forward.max_pool2x2 = (struct max_pool2x2_args){x, NULL};
        record_keep(r, x);
    }
    return y;
}

static struct tensor *output_doubled(struct tape *t, const struct tensor *x, int64_t beside)
{
    CHECK(is_activation(x, 4));
    return output(t, x, DIMS(x->shape[0], 2 * x->shape[1], 2 * x->shape[2], x->shape[3] + beside));
}

struct tensor *upsample_nearest2x(struct tape *t, struct tensor *x)
{
    struct tensor *y = output_doubled(t, x, 0);
    RUN(t, upsample_nearest2x, x, y);
    RECORD(t, y, upsample_nearest2x, x);
    return y;
}

struct tensor *upsample_bilinear2x(struct tape *t, struct tensor *x, struct tensor *beside)
{
    struct tensor *y = output_doubled(t, x, beside ? tensor_last(beside) : 0);
    CHECK(!beside || (beside->dtype == x->dtype && beside->ndim == 4 &&
                      tensor_rows(beside) == tensor_rows(y) && beside->shape[2] == y->shape[2]));
    RUN(t, upsample_bilinear2x, x, beside, y);
    RECORD(t, y, upsample_bilinear2x, x, beside);
    return y;
}

struct tensor *feature_distance(struct tape *t, struct tensor *a, struct tensor *b,
                                struct tensor *weight, float eps)
{
    CHECK(is_activation(a, 4) && a->dtype == b->dtype && tensor_same_shape(a, b));
    CHECK(is_vector(weight, a->shape[3]) && eps > 0);
    CHECK(!t->recording || !(a->gradient || weight->gradient));
    struct tensor *y = tensor_new(t->device, DTYPE_F32, DIMS(a->shape[0]));
    RUN(t, feature_distance, a, b, weight, y, eps);
    struct record *r = RECORD(t, y, feature_distance, b);
    if (r) {
        r->forward.feature_distance = (struct feature_distance_args){a, b, weight, NULL, eps};
        record_keep(r, a);
        record_keep(r, b);
        record_keep(r, weight);
    }
    return y;
}

struct tensor *to_nhwc(struct tape *t, struct tensor *x, const float *scale, const float *shift)
{
    CHECK(is_f32(x, 4) && !scale == !shift && (!scale || x->shape[1] <= 4));
    struct tensor *y = tensor_new(t->device, t->device->compute,
                                  DIMS(x->shape[0], x->shape[2], x->shape[3], x->shape[1]));
    RUN(t, to_nhwc, x, y, scale, shift);
    struct record *r = RECORD(t, y, to_nhwc, x);
    if (r && scale) {
        CHECK(x->shape[1] <= (int64_t)(sizeof r->scale / sizeof *r->scale));
        memcpy(r->scale, scale, (size_t)x->shape[1] * sizeof *scale);
        r->forward.to_nhwc.scale = r->scale;
    }
    return y;
}

struct tensor *to_nchw(struct tape *t, struct tensor *x)
{
    CHECK(is_activation(x, 4));
    struct tensor *y =
        tensor_new(t->device, DTYPE_F32, DIMS(x->shape[0], x->shape[3], x->shape[1], x->shape[2]));
    RUN(t, to_nchw, x, y);
    RECORD(t, y, to_nchw, x);
    return y;
}

struct tensor *linear_combination(struct tape *t, int count, struct tensor *const *x,
                                  const float *coefficients)
{
    CHECK(count >= 1 && count <= LINEAR_COMBINATION_MAX);
    struct linear_combination_args args = {.count = count};
    for (int i = 0; i < count; i++) {
        CHECK(x[i]->dtype == DTYPE_F32 && tensor_same_shape(x[i], x[0]));
        args.x[i] = x[i];
        args.coefficients[i] = coefficients[i];
    }
    args.y = output_like(t, x[0]);
    t->device->backend->linear_combination(t->device, &args);
    struct record *r = record_new(t, args.y, backward_linear_combination, count, x);
    if (r)
        r->forward.linear_combination = args;
    return args.y;
}

void tensor_copy(struct tensor *to, const struct tensor *from)
{
    CHECK(to->dtype == DTYPE_F32 && from->dtype == DTYPE_F32);
    CHECK(tensor_count(to) == tensor_count(from));
    struct linear_combination_args args = {.count = 1, .x = {from}, .coefficients = {1}, .y = to};
    to->device->backend->linear_combination(to->device, &args);
}

void tensor_add(struct tensor *to, const struct tensor *from)
{
    CHECK(to->dtype == DTYPE_F32 && from->dtype == DTYPE_F32);
    CHECK(tensor_count(to) == tensor_count(from));
    struct linear_combination_args args = {
        .count = 2, .x = {to, from}, .coefficients = {1, 1}, .y = to};
    to->device->backend->linear_combination(to->device, &args);
}
