#ifndef CCLD_KERNELS_OPS_H
#define CCLD_KERNELS_OPS_H

#include <stdint.h>

#include "kernels/tensor.h"

/* One contract per op. Each has
 *   struct NAME_args     what a backend gets: validated shapes, outputs allocated, never aliasing
 *                        inputs, every output element to be written;
 *   NAME(tape, ...)      what networks call: checks shapes, allocates, runs, and when the tape
 *                        records, remembers the args for the backward direction.
 * Activations are of the device's `compute` type, F32 on the CPU: outputs have the type of the
 * first input, but for to_nhwc, fourier_features and embedding (which make activations: F32 or
 * tokens in, `compute` out) and to_nchw (`compute` in, F32 out). Weights (conv2d, linear, embedding
 * tables) may be F32, F16 or BF16: on the CPU they are used as they lie in the checkpoint,
 * elsewhere see kernels/weight.h. Vectors of parameters (bias, gamma, beta, rows of positions) are
 * F32. Arithmetic is F32 at least. Pictures are [n, h, w, c]. Shapes that do not fit are a bug of
 * the caller: CHECK fails. */

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
 * pad_begin, ox*stride + kw - pad_begin, ci], zeros outside. Cross-correlation, as torch's Conv2d.
 * oh = (h + pad_begin + pad_end - kh) / stride + 1. bias may be NULL. */
struct conv2d_args {
    const struct tensor *x, *weight, *bias;
    struct tensor *y;
    int stride, pad_begin, pad_end;
};
struct tensor *conv2d(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      int stride, int pad_begin, int pad_end);

/* y[..., o] = act(bias[o] + sum_k weight[o,k] * x[..., k]) (torch's Linear). weight is [o, k], or
 * [o, k, 1, 1] as 1x1 convolutions store it. bias may be NULL. */
struct linear_args {
    const struct tensor *x, *weight, *bias;
    struct tensor *y;
    enum activation_kind act;
};
struct tensor *linear(struct tape *t, struct tensor *x, struct tensor *weight, struct tensor *bias,
                      enum activation_kind act);

/* Per image and group of c/groups neighbouring channels, over those channels and all pixels:
 * z = (x - mean) / sqrt(variance + eps), biased variance; z = z*gamma[c] + beta[c] when given;
 * z = z*(1 + m[n, c]) + m[n, C + c] when modulation is given ([n, any], of x's type), m being its
 * columns modulation_begin .. + 2C, which no other group norm has; y = act(z).
 * gamma and beta come together or are both NULL. Mean and variance are accumulated so that a
 * near-constant input keeps five digits (two passes or a shifted sum, never E[x^2] - E[x]^2). */
struct group_norm_args {
    const struct tensor *x, *gamma, *beta, *modulation;
    struct tensor *y;
    int groups;
    float eps;
    enum activation_kind act;
    int64_t modulation_begin;
};
struct tensor *group_norm(struct tape *t, struct tensor *x, int groups, float eps,
                          struct tensor *gamma, struct tensor *beta, struct tensor *modulation,
                          int64_t modulation_begin, enum activation_kind act);

/* The same over images, too, each channel by itself (torch's BatchNorm2d in training; there are no
 * running averages): group_norm of the whole batch as one tall picture. */
struct tensor *batch_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta, enum activation_kind act);

/* Over the last dimension: (x - mean) / sqrt(variance + eps) * gamma + beta. */
struct layer_norm_args {
    const struct tensor *x, *gamma, *beta;
    struct tensor *y;
    float eps;
};
struct tensor *layer_norm(struct tape *t, struct tensor *x, float eps, struct tensor *gamma,
                          struct tensor *beta);

/* Scaled dot-product attention. Head j of q, k, v are columns [j*d, (j+1)*d) of their rows; rows
 * are ld_q, ld_k, ld_v elements apart, images s rows apart; all are of y's type. y[n, i, j*d + e] =
 * sum_m p[i,m] v[m, e], p[i,:] = softmax over m of (q_i . k_m) / sqrt(d). Where uniform (I32 [n,
 * s], may be NULL) is non-zero for row i, p[i,:] = 1/s instead: what CLOOB's text tower does to
 * padding rows. */
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
/* qkv: [n, h, w, 3*c] or [n, s, 3*c], all q heads, then k, then v; returns [.., c]. */
struct tensor *attention_qkv(struct tape *t, struct tensor *qkv, int heads);

/* The same elements under another shape: a view that gradients flow through. */
struct tensor *reshape(struct tape *t, struct tensor *x, int ndim, const int64_t *shape);

struct activation_args {
    const struct tensor *x;
    struct tensor *y;
    enum activation_kind kind;
};
struct tensor *activation(struct tape *t, struct tensor *x, enum activation_kind kind);

/* y = x in another type, rounded to nearest even; cast() returns x itself where it has that type.
 */
struct cast_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *cast(struct tape *t, struct tensor *x, enum dtype dtype);
/* From F32 to what the device computes in. */
struct tensor *cast_to_compute(struct tape *t, struct tensor *x);

/* y = a + b, same shape. */
struct add_args {
    const struct tensor *a, *b;
    struct tensor *y;
};
struct tensor *add(struct tape *t, struct tensor *a, struct tensor *b);

/* y[n, s, d] = x[n, s, d] + rows[s, d] (learned positions). */
struct add_rows_args {
    const struct tensor *x, *rows;
    struct tensor *y;
};
struct tensor *add_rows(struct tape *t, struct tensor *x, struct tensor *rows);

/* Along the last dimension: y = [a, b]. */
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

/* y[n, s + 1, d]: row[d] first (the class token), then x[n, s, d]. */
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

/* y[n, s, d] = table[tokens[n, s], :]. tokens: I32, each in [0, rows of table) (checked). */
struct embedding_args {
    const struct tensor *tokens, *table;
    struct tensor *y;
};
struct tensor *embedding(struct tape *t, struct tensor *tokens, struct tensor *table);

/* y[n, 2m] = [cos(2 pi x[n] w[j]) for j < m, then sin(...)]; x: [n], weight: [m, 1]. */
struct fourier_features_args {
    const struct tensor *x, *weight;
    struct tensor *y;
};
struct tensor *fourier_features(struct tape *t, struct tensor *x, struct tensor *weight);

/* Rows of the last dimension: y = x * scale / max(|x|, eps): a zero row stays zero. */
struct l2_normalize_args {
    const struct tensor *x;
    struct tensor *y;
    float eps, scale;
};
struct tensor *l2_normalize(struct tape *t, struct tensor *x, float eps, float scale);

/* Means of 2x2 blocks; h and w are even. */
struct avg_pool2x2_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *avg_pool2x2(struct tape *t, struct tensor *x);

/* Greatest of 2x2 blocks, of equal ones the first (by rows), which alone the gradient flows to; NaN
 * counts as the greatest. Of an odd side the last row or column is left out, as torch does it. */
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

/* align_corners = false: weights 1/4 and 3/4, edges clamped. */
struct upsample_bilinear2x_args {
    const struct tensor *x;
    struct tensor *y;
};
struct tensor *upsample_bilinear2x(struct tape *t, struct tensor *x);

/* y[n] (F32 [n]) = mean over pixels of sum over c of weight[c] * (a_c / (|a| + eps) - b_c / (|b| +
 * eps))^2, |.| being the length of a pixel's channels: how far two pictures' features are apart, a
 * layer's share of LPIPS (Zhang et al., arXiv 1801.03924). Nothing flows into a and weight; where
 * |b| is zero nothing flows into b. */
struct feature_distance_args {
    const struct tensor *a, *b, *weight;
    struct tensor *y;
    float eps;
};
struct tensor *feature_distance(struct tape *t, struct tensor *a, struct tensor *b,
                                struct tensor *weight, float eps);

/* Between the outside world's [n, c, h, w] and pictures' [n, h, w, c]; y = x * scale + shift[c]
 * where given: scale and shift are host arrays of c floats, c <= 4, or NULL (pixel normalisation).
 */
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

/* y = sum_i coefficients[i] * x[i], up to 8 F32 tensors of one shape; summed in the given order. */
#define LINEAR_COMBINATION_MAX 8
struct linear_combination_args {
    int count;
    const struct tensor *x[LINEAR_COMBINATION_MAX];
    float coefficients[LINEAR_COMBINATION_MAX];
    struct tensor *y;
};
struct tensor *linear_combination(struct tape *t, int count, struct tensor *const *x,
                                  const float *coefficients);

/* Declares ref's function of every op, for backends that take some of them over. */
#define OP(name) void ref_##name(struct device *d, const struct name##_args *a);
#include "kernels/ops.def"

#endif
