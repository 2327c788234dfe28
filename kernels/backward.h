#ifndef CCLD_KERNELS_BACKWARD_H
#define CCLD_KERNELS_BACKWARD_H

#include "kernels/ops.h"

/* The backward direction of ops.h. dy is the gradient of some scalar by the op's output; each
 * function computes the gradients by its inputs. `forward` holds the tensors of the forward call.
 *   dx, dq, da ...   gradients by activations: every element is written
 *   dweight, dbias, dgamma, dtable ...   gradients by parameters: ADDED to what is there, so that
 *                    micro-batches accumulate
 * A NULL gradient is not wanted. Gradients have the shape of what they are the gradient of; those
 * by activations have its type too, those by parameters are F32 and in checkpoint order, as the
 * parameters are (a model is trained on its F32 weights). Sums over pixels and images are
 * taken in an order that does not depend on the number of threads. */

struct conv2d_backward_args {
    struct conv2d_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dweight, *dbias;
    bool fresh; /* dweight is written, whatever it holds */
};

/* forward.act is NONE or RELU (whose sign y tells). */
struct linear_backward_args {
    struct linear_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dweight, *dbias;
    bool fresh; /* dweight is written, whatever it holds */
};

/* forward.act is any; x is read again, y tells the sign for RELU. dmodulation has
 * modulation's shape; columns modulation_begin .. + 2C are written, the others left. */
struct group_norm_backward_args {
    struct group_norm_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dgamma, *dbeta, *dmodulation;
};

struct layer_norm_backward_args {
    struct layer_norm_args forward;
    const struct tensor *dy;
    struct tensor *dx, *dgamma, *dbeta;
};

/* dq, dk, dv: as far apart as q, k, v (forward.ld_q ...), all wanted or none. Scores are computed
 * again. Nothing flows into q and k of uniform rows. */
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

/* Only by the rows; dx is dy. */
struct add_rows_backward_args {
    const struct tensor *dy;
    struct tensor *drows;
};

struct concat_backward_args {
    const struct tensor *dy;
    struct tensor *da, *db;
};

/* Nothing flows into the features. */
struct append_planes_backward_args {
    const struct tensor *dy;
    struct tensor *dx;
};

struct prepend_row_backward_args {
    const struct tensor *dy;
    struct tensor *dx, *drow;
};

/* Zeros in the rows that were not taken. */
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
    struct tensor *dx;
};

/* By b alone; dy: F32 [n]. */
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
