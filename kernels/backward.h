#ifndef CCLD_KERNELS_BACKWARD_H
#define CCLD_KERNELS_BACKWARD_H

#include "kernels/ops.h"

/* The backward pass of the ops in ops.h. dy is the gradient of a scalar with respect to the op's
 * output; each function computes the gradients with respect to the inputs. `forward` holds the
 * arguments of the forward call.
 *   dx, dq, da ...   gradients of activations: every element is written
 *   dweight, dbias, dgamma, dtable ...   gradients of parameters: ADDED to the present values, so
 *                    that micro-batches accumulate
 * A gradient that is NULL is not computed. A gradient has the shape of its tensor. Gradients of
 * activations have the activations' type; gradients of parameters are F32, in checkpoint order,
 * like the F32 weights being trained, but that dweight of conv2d and linear may be compact (of the
 * activations' type; kernels of more than one element channels_last) on devices that convert
 * weights, if it is fresh. The order of sums over pixels and images does not depend
 * on the number of threads. */

struct conv2d_backward_args {
    struct conv2d_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dweight, *dbias;
    bool fresh, fresh_bias; /* dweight is overwritten; dbias is */
    bool adds;              /* to dx; only if the device fuses */
};

/* forward.act is NONE or RELU; RELU reads y for the sign. */
struct linear_backward_args {
    struct linear_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dweight, *dbias;
    bool fresh, fresh_bias; /* dweight is overwritten; dbias is */
    bool adds;              /* to dx; only if the device fuses */
};

/* forward.act may be any activation; x is read again, and y for the sign of RELU unless the device
 * fuses. dmodulation has
 * modulation's shape; columns modulation_begin .. + 2C are written, the others left unchanged. */
struct group_norm_backward_args {
    struct group_norm_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dgamma, *dbeta, *dmodulation;
    bool fresh; /* dgamma and dbeta are overwritten */
    bool adds;  /* to dx; only if the device fuses */
    /* Adds dx's sums over images and pixels (overwrites with them if fresh_sums): the gradient of
     * the bias of a convolution before. Only if the device fuses and adds is not set; or NULL. */
    struct tensor *dx_sums;
    bool fresh_sums;
};

struct layer_norm_backward_args {
    struct layer_norm_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dgamma, *dbeta;
};

/* dq, dk and dv have the row strides of q, k and v (forward.ld_q ...); all three are given or none.
 * Scores are recomputed. No gradient flows to q and k of uniform rows. */
struct attention_backward_args {
    struct attention_args forward;
    const struct tensor *dy;
    void *dq, *dk, *dv;
};

struct activation_backward_args {
    struct activation_args forward;
    const struct tensor *dy;
    struct tensor *dx;
};

/* The gradient of the rows only; dx is dy. */
struct add_rows_backward_args {
    const struct tensor *dy;
    struct tensor *drows;
};

struct concat_backward_args {
    const struct tensor *dy;
    struct tensor *da, *db;
};

/* No gradient flows to the features. */
struct append_planes_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
};

struct prepend_row_backward_args {
    const struct tensor *dy;
    struct tensor *dx, *drow;
};

/* Zero in the rows that were not taken. */
struct take_row_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
    int64_t index;
};

struct embedding_backward_args {
    struct embedding_args forward;
    const struct tensor *dy;
    struct tensor *dtable;
};

struct l2_normalize_backward_args {
    struct l2_normalize_args forward;
    const struct tensor *dy;
    struct tensor *dx;
};

struct avg_pool2x2_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
    bool adds; /* to dx; only if the device fuses */
};

/* Only forward.x is read. */
struct max_pool2x2_backward_args {
    struct max_pool2x2_args forward;
    const struct tensor *dy;
    struct tensor *dx;
};

struct upsample_nearest2x_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
};

struct upsample_bilinear2x_backward_args {
    const struct tensor *dy;
    struct tensor *dx, *dbeside;
};

/* The gradient of b only; dy: F32 [n]. */
struct feature_distance_backward_args {
    struct feature_distance_args forward;
    const struct tensor *dy;
    struct tensor *db;
};

struct to_nhwc_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
    const float *scale; /* host, NULL: 1 */
};

struct to_nchw_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
};

#define OP_BACKWARD(name)                                                                          \
    void ref_##name##_backward(struct device *d, const struct name##_backward_args *a);
#include "kernels/ops.def"

#endif
