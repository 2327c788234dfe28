#include "tests/op/in_double.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/tensor.h"

/* Compiles the sources of kernels/ref with double in place of float. Headers included above keep
 * their floats; kernels/ops.h, whose argument structs contain some, is included here with doubles.
 */
#define float double
#define DTYPE_F32 DTYPE_F64
#define dtype_to_f32(dst, dtype, src, n)                                                           \
    (CHECK((dtype) == DTYPE_F64), memcpy(dst, src, (n) * sizeof(double)))

#define ref_conv2d                  plain_conv2d
#define ref_linear                  plain_linear
#define ref_group_norm              plain_group_norm
#define ref_layer_norm              plain_layer_norm
#define ref_attention               plain_attention
#define ref_activation              plain_activation
#define ref_add_rows                plain_add_rows
#define ref_concat                  plain_concat
#define ref_append_planes           plain_append_planes
#define ref_prepend_row             plain_prepend_row
#define ref_take_row                plain_take_row
#define ref_embedding               plain_embedding
#define ref_l2_normalize            plain_l2_normalize
#define ref_avg_pool2x2             plain_avg_pool2x2
#define ref_max_pool2x2             plain_max_pool2x2
#define ref_greatest_of_block       plain_greatest_of_block
#define ref_feature_distance        plain_feature_distance
#define ref_upsample_nearest2x      plain_upsample_nearest2x
#define ref_upsample_bilinear2x     plain_upsample_bilinear2x
#define ref_to_nhwc                 plain_to_nhwc
#define ref_to_nchw                 plain_to_nchw
#define ref_activate                plain_activate
#define ref_moments                 plain_moments
#define ref_attention_probabilities plain_attention_probabilities
#define ref_bilinear2x_neighbours   plain_bilinear2x_neighbours

#include "kernels/ref/ref.h"

#include "kernels/ref/activation.c"
#include "kernels/ref/add_rows.c"
#include "kernels/ref/append_planes.c"
#include "kernels/ref/attention.c"
#include "kernels/ref/avg_pool2x2.c"
#include "kernels/ref/concat.c"
#include "kernels/ref/conv2d.c"
#include "kernels/ref/embedding.c"
#include "kernels/ref/feature_distance.c"
#include "kernels/ref/group_norm.c"
#include "kernels/ref/l2_normalize.c"
#include "kernels/ref/layer_norm.c"
#include "kernels/ref/linear.c"
#include "kernels/ref/max_pool2x2.c"
#include "kernels/ref/prepend_row.c"
#include "kernels/ref/take_row.c"
#include "kernels/ref/to_nchw.c"
#include "kernels/ref/to_nhwc.c"
#include "kernels/ref/upsample_bilinear2x.c"
#include "kernels/ref/upsample_nearest2x.c"

#define RUN(op, ...) plain_##op(NULL, &(struct op##_args){__VA_ARGS__})

void double_conv2d(struct tensor *x, struct tensor *weight, struct tensor *bias, struct tensor *y,
                   int stride, int pad_begin, int pad_end)
{
    RUN(conv2d, x, weight, bias, y, stride, pad_begin, pad_end, NULL);
}

void double_linear(struct tensor *x, struct tensor *weight, struct tensor *bias, struct tensor *y,
                   int act)
{
    RUN(linear, x, weight, bias, y, (enum activation_kind)act, NULL);
}

void double_group_norm(struct tensor *x, struct tensor *gamma, struct tensor *beta,
                       struct tensor *modulation, struct tensor *y, int groups, double eps, int act,
                       int64_t modulation_begin)
{
    RUN(group_norm, x, gamma, beta, modulation, y, groups, eps, (enum activation_kind)act,
        modulation_begin, NULL, NULL);
}

void double_layer_norm(struct tensor *x, struct tensor *gamma, struct tensor *beta,
                       struct tensor *y, double eps)
{
    RUN(layer_norm, x, gamma, beta, y, eps);
}

void double_attention(struct tensor *q, struct tensor *k, struct tensor *v, const int64_t first[3],
                      int64_t heads, int64_t d, struct tensor *uniform, struct tensor *y)
{
    RUN(attention, ref_f32(q) + first[0], ref_f32(k) + first[1], ref_f32(v) + first[2],
        tensor_last(q), tensor_last(k), tensor_last(v), q->shape[0], q->shape[1], heads, d, uniform,
        y);
}

void double_activation(struct tensor *x, struct tensor *y, int kind)
{
    RUN(activation, x, y, (enum activation_kind)kind);
}

void double_take_row(struct tensor *x, struct tensor *y, int64_t index)
{
    RUN(take_row, x, y, index);
}

void double_l2_normalize(struct tensor *x, struct tensor *y, double eps, double scale)
{
    RUN(l2_normalize, x, y, eps, scale);
}

void double_to_nhwc(struct tensor *x, struct tensor *y, struct tensor *scale, struct tensor *shift)
{
    RUN(to_nhwc, x, y, scale ? ref_f32(scale) : NULL, shift ? ref_f32(shift) : NULL);
}

void double_add_rows(struct tensor *x, struct tensor *rows, struct tensor *y)
{
    RUN(add_rows, x, rows, y);
}

void double_concat(struct tensor *a, struct tensor *b, struct tensor *y)
{
    RUN(concat, a, b, y);
}

void double_append_planes(struct tensor *x, struct tensor *features, struct tensor *y)
{
    RUN(append_planes, x, features, y);
}

void double_prepend_row(struct tensor *x, struct tensor *row, struct tensor *y)
{
    RUN(prepend_row, x, row, y);
}

void double_embedding(struct tensor *tokens, struct tensor *table, struct tensor *y)
{
    RUN(embedding, tokens, table, y);
}

void double_avg_pool2x2(struct tensor *x, struct tensor *y)
{
    RUN(avg_pool2x2, x, y);
}

void double_max_pool2x2(struct tensor *x, struct tensor *y)
{
    RUN(max_pool2x2, x, y);
}

void double_feature_distance(struct tensor *a, struct tensor *b, struct tensor *weight,
                             struct tensor *y, double eps)
{
    RUN(feature_distance, a, b, weight, y, eps);
}

void double_upsample_nearest2x(struct tensor *x, struct tensor *y)
{
    RUN(upsample_nearest2x, x, y);
}

void double_upsample_bilinear2x(struct tensor *x, struct tensor *beside, struct tensor *y)
{
    RUN(upsample_bilinear2x, x, beside, y);
}

void double_to_nchw(struct tensor *x, struct tensor *y)
{
    RUN(to_nchw, x, y);
}
