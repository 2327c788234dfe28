#include "kernels/ops.h"

#include "common/base/message.h"
#include "kernels/tape.h"

/* The public side of every op: shapes are checked once here, so that backends may rely on them.
 * RUN is the one place through which every op call goes. */
#define RUN(tape, name, ...)                                                                       \
    do {                                                                                           \
        struct name##_args args_ = {__VA_ARGS__};                                                  \
        (tape)->device->backend->name((tape)->device, &args_);                                     \
    } while (0)

static struct tensor *output(struct tape *t, int ndim, const int64_t *shape)
{
    return tensor_new(t->device, DTYPE_F32, ndim, shape);
}

static struct tensor *output_like(struct tape *t, const struct tensor *x)
{
    return output(t, x->ndim, x->shape);
}

static bool is_weight(const struct tensor *w)
{
    return w->dtype == DTYPE_F32 || w->dtype == DTYPE_F16 || w->dtype == DTYPE_BF16;
}

/* F32 with this many elements, as vectors of parameters are. */
static bool is_vector(const struct tensor *v, int64_t count)
{
    return v->dtype == DTYPE_F32 && tensor_count(v) == count;
}

static bool is_f32(const struct tensor *x, int ndim)
{
    return x->dtype == DTYPE_F32 && x->ndim == ndim;
}

struct tensor *conv2d(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      int stride, int pad_begin, int pad_end)
{
    CHECK(is_f32(x, 4) && weight->ndim == 4 && is_weight(weight));
    CHECK(weight->shape[1] == x->shape[3] && stride >= 1 && pad_begin >= 0 && pad_end >= 0);
    CHECK(!bias || is_vector(bias, weight->shape[0]));
    int64_t height = x->shape[1] + pad_begin + pad_end - weight->shape[2];
    int64_t width = x->shape[2] + pad_begin + pad_end - weight->shape[3];
    CHECK(height >= 0 && width >= 0);
    struct tensor *y =
        output(t, DIMS(x->shape[0], height / stride + 1, width / stride + 1, weight->shape[0]));
    RUN(t, conv2d, x, weight, bias, y, stride, pad_begin, pad_end);
    return y;
}

struct tensor *linear(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      enum activation_kind act)
{
    CHECK(x->dtype == DTYPE_F32 && is_weight(weight) && weight->ndim >= 2);
    CHECK(weight->shape[1] == tensor_last(x));
    CHECK(tensor_count(weight) == weight->shape[0] * weight->shape[1]);
    CHECK(!bias || is_vector(bias, weight->shape[0]));
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        shape[i] = x->shape[i];
    shape[x->ndim - 1] = weight->shape[0];
    struct tensor *y = output(t, x->ndim, shape);
    RUN(t, linear, x, weight, bias, y, act);
    return y;
}

struct tensor *group_norm(struct tape *t, struct tensor *x, int groups, float eps,
                          struct tensor *gamma, struct tensor *beta, struct tensor *modulation,
                          enum activation_kind act)
{
    CHECK(is_f32(x, 4));
    int64_t c = x->shape[3];
    CHECK(groups >= 1 && c % groups == 0 && !gamma == !beta);
    CHECK(!gamma || (is_vector(gamma, c) && is_vector(beta, c)));
    CHECK(!modulation || is_vector(modulation, x->shape[0] * 2 * c));
    struct tensor *y = output_like(t, x);
    RUN(t, group_norm, x, gamma, beta, modulation, y, groups, eps, act);
    return y;
}

struct tensor *layer_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta)
{
    CHECK(x->dtype == DTYPE_F32);
    CHECK(is_vector(gamma, tensor_last(x)) && is_vector(beta, tensor_last(x)));
    struct tensor *y = output_like(t, x);
    RUN(t, layer_norm, x, gamma, beta, y, eps);
    return y;
}

struct tensor *attention(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                         int heads, struct tensor *uniform)
{
    CHECK(is_f32(q, 3) && is_f32(k, 3) && is_f32(v, 3));
    CHECK(tensor_same_shape(q, k) && tensor_same_shape(q, v));
    int64_t n = q->shape[0], s = q->shape[1], c = q->shape[2];
    CHECK(heads >= 1 && c % heads == 0);
    CHECK(!uniform || (uniform->dtype == DTYPE_I32 && tensor_count(uniform) == n * s));
    struct tensor *y = output_like(t, q);
    RUN(t, attention, q->data, k->data, v->data, c, c, c, n, s, heads, c / heads, uniform, y);
    return y;
}

struct tensor *attention_qkv(struct tape *t, struct tensor *qkv, int heads)
{
    CHECK(qkv->dtype == DTYPE_F32 && qkv->ndim >= 3 && tensor_last(qkv) % 3 == 0);
    int64_t n = qkv->shape[0], c = tensor_last(qkv) / 3, s = tensor_rows(qkv) / n;
    CHECK(heads >= 1 && c % heads == 0);
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < qkv->ndim; i++)
        shape[i] = qkv->shape[i];
    shape[qkv->ndim - 1] = c;
    struct tensor *y = output(t, qkv->ndim, shape);
    const float *q = qkv->data;
    RUN(t, attention, q, q + c, q + 2 * c, 3 * c, 3 * c, 3 * c, n, s, heads, c / heads, NULL, y);
    return y;
}

struct tensor *activation(struct tape *t, struct tensor *x, enum activation_kind kind)
{
    CHECK(x->dtype == DTYPE_F32);
    struct tensor *y = output_like(t, x);
    RUN(t, activation, x, y, kind);
    return y;
}

struct tensor *add(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(a->dtype == DTYPE_F32 && b->dtype == DTYPE_F32 && tensor_same_shape(a, b));
    struct tensor *y = output_like(t, a);
    RUN(t, add, a, b, y);
    return y;
}

struct tensor *add_rows(struct tape *t, struct tensor *x, struct tensor *rows)
{
    CHECK(is_f32(x, 3) && is_vector(rows, x->shape[1] * x->shape[2]));
    struct tensor *y = output_like(t, x);
    RUN(t, add_rows, x, rows, y);
    return y;
}

struct tensor *concat(struct tape *t, struct tensor *a, struct tensor *b)
{
    CHECK(a->dtype == DTYPE_F32 && b->dtype == DTYPE_F32 && a->ndim == b->ndim);
    int64_t shape[TENSOR_MAX_DIMS];
    for (int i = 0; i < a->ndim; i++) {
        shape[i] = a->shape[i];
        CHECK(i == a->ndim - 1 || a->shape[i] == b->shape[i]);
    }
    shape[a->ndim - 1] += tensor_last(b);
    struct tensor *y = output(t, a->ndim, shape);
    RUN(t, concat, a, b, y);
    return y;
}

struct tensor *append_planes(struct tape *t, struct tensor *x, struct tensor *features)
{
    CHECK(is_f32(x, 4) && is_f32(features, 2) && features->shape[0] == x->shape[0]);
    struct tensor *y =
        output(t, DIMS(x->shape[0], x->shape[1], x->shape[2], x->shape[3] + features->shape[1]));
    RUN(t, append_planes, x, features, y);
    return y;
}

struct tensor *prepend_row(struct tape *t, struct tensor *x, struct tensor *row)
{
    CHECK(is_f32(x, 3) && is_vector(row, x->shape[2]));
    struct tensor *y = output(t, DIMS(x->shape[0], x->shape[1] + 1, x->shape[2]));
    RUN(t, prepend_row, x, row, y);
    return y;
}

struct tensor *take_row(struct tape *t, struct tensor *x, int64_t index)
{
    CHECK(is_f32(x, 3) && index >= 0 && index < x->shape[1]);
    struct tensor *y = output(t, DIMS(x->shape[0], x->shape[2]));
    RUN(t, take_row, x, y, index);
    return y;
}

struct tensor *embedding(struct tape *t, struct tensor *tokens, struct tensor *table)
{
    CHECK(tokens->dtype == DTYPE_I32 && tokens->ndim == 2);
    CHECK(table->ndim == 2 && is_weight(table));
    struct tensor *y = output(t, DIMS(tokens->shape[0], tokens->shape[1], table->shape[1]));
    RUN(t, embedding, tokens, table, y);
    return y;
}

struct tensor *fourier_features(struct tape *t, struct tensor *x, struct tensor *weight)
{
    CHECK(is_f32(x, 1) && is_f32(weight, 2) && weight->shape[1] == 1);
    struct tensor *y = output(t, DIMS(x->shape[0], 2 * weight->shape[0]));
    RUN(t, fourier_features, x, weight, y);
    return y;
}

struct tensor *l2_normalize(struct tape *t, struct tensor *x, float eps, float scale)
{
    CHECK(x->dtype == DTYPE_F32 && eps > 0);
    struct tensor *y = output_like(t, x);
    RUN(t, l2_normalize, x, y, eps, scale);
    return y;
}

struct tensor *avg_pool2x2(struct tape *t, struct tensor *x)
{
    CHECK(is_f32(x, 4) && x->shape[1] % 2 == 0 && x->shape[2] % 2 == 0);
    struct tensor *y = output(t, DIMS(x->shape[0], x->shape[1] / 2, x->shape[2] / 2, x->shape[3]));
    RUN(t, avg_pool2x2, x, y);
    return y;
}

static struct tensor *output_doubled(struct tape *t, const struct tensor *x)
{
    CHECK(is_f32(x, 4));
    return output(t, DIMS(x->shape[0], 2 * x->shape[1], 2 * x->shape[2], x->shape[3]));
}

struct tensor *upsample_nearest2x(struct tape *t, struct tensor *x)
{
    struct tensor *y = output_doubled(t, x);
    RUN(t, upsample_nearest2x, x, y);
    return y;
}

struct tensor *upsample_bilinear2x(struct tape *t, struct tensor *x)
{
    struct tensor *y = output_doubled(t, x);
    RUN(t, upsample_bilinear2x, x, y);
    return y;
}

struct tensor *to_nhwc(struct tape *t, struct tensor *x, const float *scale, const float *shift)
{
    CHECK(is_f32(x, 4) && !scale == !shift);
    struct tensor *y = output(t, DIMS(x->shape[0], x->shape[2], x->shape[3], x->shape[1]));
    RUN(t, to_nhwc, x, y, scale, shift);
    return y;
}

struct tensor *to_nchw(struct tape *t, struct tensor *x)
{
    CHECK(is_f32(x, 4));
    struct tensor *y = output(t, DIMS(x->shape[0], x->shape[3], x->shape[1], x->shape[2]));
    RUN(t, to_nchw, x, y);
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
    return args.y;
}
