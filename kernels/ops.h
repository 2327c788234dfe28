#ifndef CCLD_KERNELS_OPS_H
#define CCLD_KERNELS_OPS_H

#include <stdint.h>

#include "kernels/tensor.h"

/* The contract of every op. Each op has
 *   struct NAME_args     what a backend receives: shapes are validated and outputs allocated; they
 *                        never alias inputs, and the backend writes every element of them;
 *   NAME(tape, ...)      what networks call: checks shapes, allocates the output, runs the op and,
 *                        if the tape records, keeps the arguments for the backward pass.
 * Activations have the device's `compute` type. An output has the type of the first
 * input, except for to_nhwc, fourier_features and embedding (F32 or tokens in, `compute` out) and
 * to_nchw (`compute` in, F32 out). Weights (of conv2d and linear, embedding tables) may be F32, F16
 * or BF16; the CPU reads them as stored in the checkpoint, and rounds them to BF16 where it
 * multiplies them with activations of that type; for other devices see kernels/weight.h. Parameter
 * vectors (bias, gamma, beta, position embeddings) are F32. Arithmetic is F32 or wider. Images are
 * [n, h, w, c]. Mismatched shapes are a bug in the caller and fail a CHECK. */

struct tape; /* kernels/tape.h */

#define LEAKY_RELU_SLOPE 0.2f

enum activation_kind {
    ACTIVATION_NONE,
    ACTIVATION_RELU,
    ACTIVATION_SILU,       /* x * sigmoid(x), "swish" */
    ACTIVATION_GELU,       /* x * Phi(x) by erf, not the tanh approximation */
    ACTIVATION_LEAKY_RELU, /* x * LEAKY_RELU_SLOPE below zero */
};

/* y[n,oh,ow,co] = bias[co] + sum over kh, kw, ci of weight[co,ci,kh,kw] * x[n, oy*stride + kh -
 * pad_begin, ox*stride + kw - pad_begin, ci], where x is zero outside its bounds.
 * Cross-correlation, as in torch's Conv2d. oh = (h + pad_begin + pad_end - kh) / stride + 1. bias
 * may be NULL. */
struct conv2d_args {
    const struct tensor *x, *weight, *bias;
    struct tensor *y;
    int stride, pad_begin, pad_end;
    const struct tensor *residual; /* added to y, of which it has type and shape; or NULL */
};
struct tensor *conv2d(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      int stride, int pad_begin, int pad_end);
/* residual + conv2d(x): one op if the device fuses, else two. */
struct tensor *conv2d_add(struct tape *t, struct tensor *residual, struct tensor *x,
                          struct tensor *weight, struct tensor *bias, int stride, int pad_begin,
                          int pad_end);

/* y[..., o] = act(bias[o] + sum_k weight[o,k] * x[..., k]) (torch's Linear). weight is [o, k], or
 * [o, k, 1, 1] as stored for 1x1 convolutions. bias may be NULL. */
struct linear_args {
    const struct tensor *x, *weight, *bias;
    struct tensor *y;
    enum activation_kind act;
    const struct tensor
        *residual; /* added to y, of which it has type and shape, after act NONE; or NULL */
};
struct tensor *linear(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      enum activation_kind act);
/* residual + linear(x), without activation: one op if the device fuses, else two. */
struct tensor *linear_add(struct tape *t, struct tensor *residual, struct tensor *x,
                          struct tensor *weight, struct tensor *bias);

/* Normalizes each group of c/groups adjacent channels of an image over its channels and all pixels:
 * z = (x - mean) / sqrt(variance + eps), with the biased variance;
 * z = z*gamma[c] + beta[c] if gamma and beta are given (both or neither);
 * z = z*(1 + m[n, c]) + m[n, C + c] if modulation is given ([n, any], of x's type), where m is its
 * columns modulation_begin .. + 2C, which no other group norm may use;
 * y = act(z), plus residual (of x's type and shape) if given.
 * statistics (F32 [n, groups, 3], may be NULL) receives mean, the rest of the mean that a float
 * leaves, and 1 / sqrt(variance + eps), so that the backward pass need not compute them again. Mean
 * and variance are accumulated so that a near-constant input keeps five digits (two passes or a
 * shifted sum, never E[x^2] - E[x]^2). */
struct group_norm_args {
    const struct tensor *x, *gamma, *beta, *modulation;
    struct tensor *y;
    int groups;
    float eps;
    enum activation_kind act;
    int64_t modulation_begin;
    const struct tensor *residual;
    struct tensor *statistics; /* backward: what the forward pass has written, or NULL */
};
struct tensor *group_norm(struct tape *t, struct tensor *x, int groups, float eps,
                          struct tensor *gamma, struct tensor *beta, struct tensor *modulation,
                          int64_t modulation_begin, enum activation_kind act);

/* residual + group_norm(x): one op if the device fuses, else two. */
struct tensor *group_norm_add(struct tape *t, struct tensor *residual, struct tensor *x, int groups,
                              float eps, struct tensor *gamma, struct tensor *beta,
                              struct tensor *modulation, int64_t modulation_begin,
                              enum activation_kind act);

/* Normalizes each channel over all pixels of the batch (torch's BatchNorm2d in training mode,
 * without running averages): group_norm of the whole batch as one tall image. */
struct tensor *batch_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta, enum activation_kind act);

/* y = (x - mean) / sqrt(variance + eps) * gamma + beta, mean and variance over the last dimension.
 */
struct layer_norm_args {
    const struct tensor *x, *gamma, *beta;
    struct tensor *y;
    float eps;
};
struct tensor *layer_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta);

/* Scaled dot-product attention. Head j of q, k and v is columns [j*d, (j+1)*d) of their rows; rows
 * are ld_q, ld_k and ld_v elements apart, images s rows apart; all have y's type.
 * y[n, i, j*d + e] = sum_m p[i,m] v[m, e], p[i,:] = softmax over m of (q_i . k_m) / sqrt(d).
 * If uniform (I32 [n, s], may be NULL) is non-zero for row i, p[i,:] = 1/s instead, as CLOOB's text
 * tower treats padding rows. */
struct attention_args {
    const void *q, *k, *v; /* first element of image 0, row 0, head 0; on the device */
    int64_t ld_q, ld_k, ld_v;
    int64_t n, s, heads, d;
    const struct tensor *uniform;
    struct tensor *y; /* [n, s, heads*d] */
};
/* q, k, v: [n, s, heads*d] each. */
struct tensor *attention(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                         int heads, struct tensor *uniform);
/* qkv: [n, h, w, 3*c] or [n, s, 3*c], all q heads, then k, then v. Returns [.., c]. */
struct tensor *attention_qkv(struct tape *t, struct tensor *qkv, int heads);

/* A view of x with another shape; gradients flow through it. */
struct tensor *reshape(struct tape *t, struct tensor *x, int ndim, const int64_t *shape);

struct activation_args {
    const struct tensor *x;
    struct tensor *y;
    enum activation_kind kind;
};
struct tensor *activation(struct tape *t, struct tensor *x, enum activation_kind kind);

/* y = x converted to another type, rounded to nearest even. cast() returns another reference to x
 * if x already has that type. */
struct cast_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *cast(struct tape *t, struct tensor *x, enum dtype dtype);
/* To the device's `compute` type. */
struct tensor *cast_to_compute(struct tape *t, struct tensor *x);

/* y = a + b, same shape. */
struct add_args {
    const struct tensor *a, *b;
    struct tensor *y;
};
struct tensor *add(struct tape *t, struct tensor *a, struct tensor *b);

/* y[n, s, d] = x[n, s, d] + rows[s, d] (learned position embeddings). */
struct add_rows_args {
    const struct tensor *x, *rows;
    struct tensor *y;
};
struct tensor *add_rows(struct tape *t, struct tensor *x, struct tensor *rows);

/* y = [a, b], concatenated along the last dimension. */
struct concat_args {
    const struct tensor *a, *b;
    struct tensor *y;
};
struct tensor *concat(struct tape *t, struct tensor *a, struct tensor *b);

/* y[n, h, w, c + f] = [x[n, h, w, :], features[n, :]] at every pixel. */
struct append_planes_args {
    const struct tensor *x, *features;
    struct tensor *y;
};
struct tensor *append_planes(struct tape *t, struct tensor *x, struct tensor *features);

/* y[n, s + 1, d] = row[d] (the class token), then x[n, s, d]. */
struct prepend_row_args {
    const struct tensor *x, *row;
    struct tensor *y;
};
struct tensor *prepend_row(struct tape *t, struct tensor *x, struct tensor *row);

/* y[n, d] = x[n, index, d]. */
struct take_row_args {
    const struct tensor *x;
    struct tensor *y;
    int64_t index;
};
struct tensor *take_row(struct tape *t, struct tensor *x, int64_t index);

/* y[n, s, d] = table[tokens[n, s], :]. tokens: I32, each checked to be in
 * [0, rows of table). */
struct embedding_args {
    const struct tensor *tokens, *table;
    struct tensor *y;
};
struct tensor *embedding(struct tape *t, struct tensor *tokens, struct tensor *table);

/* y[n, 2m] = [cos(2 pi x[n] w[j]) for j < m, then sin(...)]; x: [n], weight: [m, 1]. No gradient
 * flows through it: the weight is fixed. */
struct fourier_features_args {
    const struct tensor *x, *weight;
    struct tensor *y;
};
struct tensor *fourier_features(struct tape *t, struct tensor *x, struct tensor *weight);

/* y = x * scale / max(|x|, eps) for each row of the last dimension; a zero row stays zero. */
struct l2_normalize_args {
    const struct tensor *x;
    struct tensor *y;
    float eps, scale;
};
struct tensor *l2_normalize(struct tape *t, struct tensor *x, float eps, float scale);

/* The mean of each 2x2 block; h and w are even. */
struct avg_pool2x2_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *avg_pool2x2(struct tape *t, struct tensor *x);

/* The maximum of each 2x2 block. The gradient flows to the maximum only, to the first in row order
 * among equal elements; NaN counts as the maximum. The last row or column of an odd side is
 * dropped, as in torch. */
struct max_pool2x2_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *max_pool2x2(struct tape *t, struct tensor *x);

struct upsample_nearest2x_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *upsample_nearest2x(struct tape *t, struct tensor *x);

/* align_corners = false: weights of 1/4 and 3/4, clamped at the edges. With beside [n, 2h, 2w, b],
 * its channels follow the enlarged x's in each pixel of y [n, 2h, 2w, c + b], as concat would put
 * them; it may be NULL. */
struct upsample_bilinear2x_args {
    const struct tensor *x, *beside;
    struct tensor *y;
};
struct tensor *upsample_bilinear2x(struct tape *t, struct tensor *x, struct tensor *beside);

/* y[n] (F32 [n]) = mean over pixels of sum over c of weight[c] * (a_c / (|a| + eps) - b_c / (|b| +
 * eps))^2, where |.| is the norm over a pixel's channels: the distance between two images' features
 * in one layer of LPIPS (Zhang et al., arXiv 1801.03924). No gradient flows to a and weight, and
 * none to b where |b| is zero. */
struct feature_distance_args {
    const struct tensor *a, *b, *weight;
    struct tensor *y;
    float eps;
};
struct tensor *feature_distance(struct tape *t, struct tensor *a, struct tensor *b,
                                struct tensor *weight, float eps);

/* Between [n, c, h, w], the layout of inputs and outputs, and the networks' [n, h, w, c].
 * y = x * scale[c] + shift[c] if given (pixel normalization): scale and shift are host arrays of
 * c <= 4 floats, or both NULL. */
struct to_nhwc_args {
    const struct tensor *x;
    struct tensor *y;
    const float *scale, *shift;
};
struct tensor *to_nhwc(struct tape *t, struct tensor *x, const float *scale, const float *shift);
struct to_nchw_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *to_nchw(struct tape *t, struct tensor *x);

/* y = sum_i coefficients[i] * x[i], at most 8 F32 tensors of one shape, summed in the given order.
 */
#define LINEAR_COMBINATION_MAX 8
struct linear_combination_args {
    int count;
    const struct tensor *x[LINEAR_COMBINATION_MAX];
    float coefficients[LINEAR_COMBINATION_MAX];
    struct tensor *y;
};
struct tensor *linear_combination(struct tape *t, int count, struct tensor *const *x,
                                  const float *coefficients);
/* Copies `from` to `to`, or adds it, on their device: F32, equal counts. Ordered like an op, but
 * not recorded. */
void tensor_copy(struct tensor *to, const struct tensor *from);
void tensor_add(struct tensor *to, const struct tensor *from);

/* The reference implementation of every op; backends use it for the ops they do not replace. */
#define OP(name) void ref_##name(struct device *d, const struct name##_args *a);
#include "kernels/ops.def"

#endif
