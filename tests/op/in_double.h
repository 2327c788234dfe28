#ifndef CCLD_TESTS_OP_IN_DOUBLE_H
#define CCLD_TESTS_OP_IN_DOUBLE_H

#include <stdint.h>

struct tensor;

/* kernels/ref computing in double from beginning to end: activations, parameters and outputs are
 * F64 tensors. For differences, whose last digits F32 would round away. act, kind: of enum
 * activation_kind. */
void double_conv2d(struct tensor *x, struct tensor *weight, struct tensor *bias, struct tensor *y,
                   int stride, int pad_begin, int pad_end);
void double_linear(struct tensor *x, struct tensor *weight, struct tensor *bias, struct tensor *y,
                   int act);
void double_group_norm(struct tensor *x, struct tensor *gamma, struct tensor *beta,
                       struct tensor *modulation, struct tensor *y, int groups, double eps, int act,
                       int64_t modulation_begin);
void double_layer_norm(struct tensor *x, struct tensor *gamma, struct tensor *beta,
                       struct tensor *y, double eps);
/* q, k, v begin at first[] elements of their tensors; rows are as far apart as their last dimension
 * is long. */
void double_attention(struct tensor *q, struct tensor *k, struct tensor *v, const int64_t first[3],
                      int64_t heads, int64_t d, struct tensor *uniform, struct tensor *y);
void double_activation(struct tensor *x, struct tensor *y, int kind);
void double_add_rows(struct tensor *x, struct tensor *rows, struct tensor *y);
void double_concat(struct tensor *a, struct tensor *b, struct tensor *y);
void double_append_planes(struct tensor *x, struct tensor *features, struct tensor *y);
void double_prepend_row(struct tensor *x, struct tensor *row, struct tensor *y);
void double_take_row(struct tensor *x, struct tensor *y, int64_t index);
void double_embedding(struct tensor *tokens, struct tensor *table, struct tensor *y);
void double_l2_normalize(struct tensor *x, struct tensor *y, double eps, double scale);
void double_avg_pool2x2(struct tensor *x, struct tensor *y);
void double_max_pool2x2(struct tensor *x, struct tensor *y);
void double_feature_distance(struct tensor *a, struct tensor *b, struct tensor *weight,
                             struct tensor *y, double eps);
void double_upsample_nearest2x(struct tensor *x, struct tensor *y);
void double_upsample_bilinear2x(struct tensor *x, struct tensor *beside, struct tensor *y);
void double_to_nhwc(struct tensor *x, struct tensor *y, struct tensor *scale, struct tensor *shift);
void double_to_nchw(struct tensor *x, struct tensor *y);

#endif
