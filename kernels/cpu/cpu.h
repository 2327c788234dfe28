#ifndef CCLD_KERNELS_CPU_CPU_H
#define CCLD_KERNELS_CPU_CPU_H

#include "kernels/cpu/isa.h"
#include "kernels/device.h"

/* The ops that this backend implements itself, one file each; the others come from ref/. */
void cpu_conv2d(struct device *d, const struct conv2d_args *a);
/* The find_rows of matmul.h: input pixels under the taps of output pixels; context: conv2d_args. */
void cpu_find_pixels(const void *context, int64_t m, int count, const void **a, int stride);
void cpu_linear(struct device *d, const struct linear_args *a);
void cpu_group_norm(struct device *d, const struct group_norm_args *a);
void cpu_layer_norm(struct device *d, const struct layer_norm_args *a);
void cpu_attention(struct device *d, const struct attention_args *a);
void cpu_activation(struct device *d, const struct activation_args *a);
void cpu_cast(struct device *d, const struct cast_args *a);
void cpu_add(struct device *d, const struct add_args *a);
void cpu_concat(struct device *d, const struct concat_args *a);
void cpu_avg_pool2x2(struct device *d, const struct avg_pool2x2_args *a);
void cpu_max_pool2x2(struct device *d, const struct max_pool2x2_args *a);
void cpu_feature_distance(struct device *d, const struct feature_distance_args *a);
void cpu_upsample_nearest2x(struct device *d, const struct upsample_nearest2x_args *a);
void cpu_upsample_bilinear2x(struct device *d, const struct upsample_bilinear2x_args *a);
void cpu_to_nhwc(struct device *d, const struct to_nhwc_args *a);
void cpu_to_nchw(struct device *d, const struct to_nchw_args *a);
void cpu_linear_combination(struct device *d, const struct linear_combination_args *a);

void cpu_conv2d_backward(struct device *d, const struct conv2d_backward_args *a);
void cpu_linear_backward(struct device *d, const struct linear_backward_args *a);
void cpu_group_norm_backward(struct device *d, const struct group_norm_backward_args *a);
void cpu_layer_norm_backward(struct device *d, const struct layer_norm_backward_args *a);
void cpu_attention_backward(struct device *d, const struct attention_backward_args *a);
void cpu_activation_backward(struct device *d, const struct activation_backward_args *a);
void cpu_concat_backward(struct device *d, const struct concat_backward_args *a);
void cpu_embedding_backward(struct device *d, const struct embedding_backward_args *a);
void cpu_avg_pool2x2_backward(struct device *d, const struct avg_pool2x2_backward_args *a);
void cpu_max_pool2x2_backward(struct device *d, const struct max_pool2x2_backward_args *a);
void cpu_feature_distance_backward(struct device *d,
                                   const struct feature_distance_backward_args *a);
void cpu_upsample_nearest2x_backward(struct device *d,
                                     const struct upsample_nearest2x_backward_args *a);
void cpu_upsample_bilinear2x_backward(struct device *d,
                                      const struct upsample_bilinear2x_backward_args *a);
void cpu_adamw(struct device *d, const struct adamw_args *a);
void cpu_moving_average(struct device *d, const struct moving_average_args *a);
void cpu_fill(struct device *d, const struct fill_args *a);
void cpu_square_sums(struct device *d, const struct square_sums_args *a);

/* Sets the ops that compute BF16 on F32 copies (widened.c). */
void cpu_widened_init(struct backend *b);

/* conv2d_backward.c's fast path for the weights' gradient (winograd_backward.c). */
void cpu_conv2d_winograd_by_weights(struct device *d, const struct conv2d_backward_args *a);
size_t cpu_conv2d_winograd_by_weights_bytes(const struct conv2d_backward_args *a); /* scratch */

/* Which way a convolution is computed, and how many rows of patches it gathers at a time. */
bool cpu_conv2d_winograd_is_bf16(const struct conv2d_args *a);
/* Of the weights that the input's gradient multiplies with. */
enum dtype cpu_conv2d_flipped_dtype(const struct conv2d_backward_args *a);
bool cpu_linear_is_by_weights_bf16(const struct linear_backward_args *a);
#define CPU_SMALL_IMAGE 64 /* pixels */
/* Writes the input pixels under output pixels [first, first + count) as rows in the order of the
 * weights, [ci][kh][kw], ld apart, of x's type. */
void cpu_gather_patches(const struct conv2d_args *a, int64_t first, int64_t count, void *columns,
                        int64_t ld);
#define CPU_PATCHES_SLAB 16384

/* Scratch memory of a convolution, and of its weights' gradient. */
size_t cpu_conv2d_bytes(const struct conv2d_args *a);
size_t cpu_conv2d_by_weights_bytes(const struct conv2d_backward_args *a);

/* conv2d.c's fast path for 3x3, stride 1, padding 1 (winograd.c). */
void cpu_conv2d_winograd(struct device *d, const struct conv2d_args *a);
size_t cpu_conv2d_winograd_bytes(const struct conv2d_args *a); /* of its scratch memory */

#endif
