#ifndef CCLD_KERNELS_TRAINING_H
#define CCLD_KERNELS_TRAINING_H

#include "kernels/losses.h"
#include "kernels/ops.h"

/* Ops of a training step that no gradient flows through. As in ops.h, backends receive validated
 * NAME_args and write every element of the outputs. */

/* Normal random numbers, as rng_normal of common/base/rng.h: row i of y [n, count] holds elements
 * 0 .. count of sample draws[i, 0] at step draws[i, 1]. draws: I64 [n, 2]. The same bits on every
 * device. */
struct normals_args {
    uint64_t seed;
    int purpose; /* enum rng_purpose */
    const struct tensor *draws;
    struct tensor *y;
};

/* The U-Net's training input and target. moments [n, 2z, h, w]: means, then log-variances; the
 * other tensors are [n, z, h, w]. latent = (mean + exp(clamp(logvar, -30, 20) / 2) *
 * posterior_noise) / scale; noisy = alpha[i] * latent + sigma[i] * noise; target = alpha[i] * noise
 * - sigma[i] * latent. alpha, sigma: [n]. All F32. (Salimans and Ho, arXiv 2202.00512,
 * v-prediction.) */
struct noised_latents_args {
    const struct tensor *moments, *posterior_noise, *noise, *alpha, *sigma;
    float scale;
    struct tensor *noisy, *target;
};

/* loss[i] (F32 [n]) = mean over image i of (x - target)^2; dx = 2 (x - target) * weight[0]. For the
 * gradient of the mean loss, weight is the loss scale divided by the number of elements in the
 * effective batch. All tensors are F32; weight has one element. If loss[i] is not finite, neither
 * is the first element of image i's dx. dx may be NULL; weight may then be NULL, too. */
struct mse_args {
    const struct tensor *x, *target, *weight;
    struct tensor *loss, *dx;
};

/* average = decay*average + (1 - decay)*x, for count elements. */
struct moving_average_args {
    int64_t count;
    float *average;
    const float *x;
    double decay;
};

/* One step over `count` elements of flat arrays: AdamW (Loshchilov and Hutter, arXiv 1711.05101, as
 * in torch.optim.AdamW), then the moving_average ema of the parameters with ema_decay. The gradient
 * is first multiplied by gradient_scale (accumulation, clipping). step counts from 1.
 *
 * m and v may be NULL: then the gradient is the step itself, of length learning_rate, and is not
 * multiplied: parameter = parameter * (1 - learning_rate * weight_decay) - learning_rate *
 * gradient.
 *
 * If ema_is_behind, ema has not taken in the parameters of the step before: it does so first, with
 * ema_decay_before. The bits are those of two moving averages, but ema is read and written once. */
struct adamw_args {
    int64_t count;
    float *parameter, *m, *v, *ema; /* ema may be NULL */
    const float *gradient;
    double learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, ema_decay;
    int64_t step;
    bool ema_is_behind;
    double ema_decay_before;
};

/* sums[i] (on the device) = sum of squares of segment i of x, its elements i * SQUARES_SEGMENT and
 * following: float partial sums over short blocks, added in double (1e-6 relative). Not finite if
 * any element is not, or if its square overflows. A segment's sum depends on nothing else, so that
 * the sum over all segments in order does not depend on how they are divided among devices. */
#define SQUARES_SEGMENT 16384
static inline int64_t squares_segments(int64_t count)
{
    return (count + SQUARES_SEGMENT - 1) / SQUARES_SEGMENT;
}
struct square_sums_args {
    int64_t count;
    const float *x;
    double *sums; /* [squares_segments(count)] */
    /* NULL, or which elements are compact gradients (below), of which segments count in the order
     * of their own memory. x is element 0 of the whole array then. */
    const struct update_copies *copies;
};

/* The end of a training step over `count` elements of flat arrays: norm = sqrt(sum of squares) /
 * loss_scale; if it is finite, one adamw step with gradient_scale = min(1, clip / norm) /
 * loss_scale (clip 0: no clipping), else nothing changes. If m and v are NULL, no gradient may be
 * compact. The host need not know the norm. */
struct update_result {
    double gradient_norm;
    bool applied;
};
/* Working copies of weights (kernels/weight.h), written along with the weights. Gradients of the
 * same kernels and matrices may be compact: in the place of their F32 elements lie elements of the
 * copy's type in the copy's order, from the beginning of that place on. */
struct update_copies {
    const struct tensor *table; /* `count` struct update_copy, ascending, on the device */
    int64_t count, bytes;       /* bytes: of all copies together */
    int64_t spared;             /* bytes that compact gradients need less than others */
};
struct update_copy {
    int64_t first, count; /* elements of the whole array of weights */
    void *to;
    const void *gradient; /* compact, or NULL */
    /* Of kernels that are stored with channels last: kh * kw, and the number of input channels;
     * otherwise 1 and count. */
    int64_t window, channels;
    int64_t dtype; /* enum dtype: F32, F16 or BF16 */
};
#define UPDATE_COPY_WORDS ((int64_t)(sizeof(struct update_copy) / sizeof(int64_t)))
struct update_args {
    int64_t count;
    float *parameter, *m, *v, *ema; /* ema may be NULL */
    const float *gradient;
    double learning_rate, beta1, beta2, epsilon, weight_decay, ema_decay, loss_scale, clip;
    int64_t step; /* as adamw counts them: updates applied before this one, plus 1 */
    /* Of the whole gradient, of which `gradient` may be a part (square_sums). */
    const double *squares;
    int64_t squares_count;
    struct update_result *result; /* host memory, valid when the call returns; NULL: not wanted */
    /* NULL, or the copies of elements that are updated; `first` is where `parameter` is in the
     * whole array. */
    const struct update_copies *copies;
    int64_t first;
    /* NULL, or an F32 tensor that is downloaded to `fetched` with the result. */
    const struct tensor *fetch;
    float *fetched;
    bool ema_is_behind; /* as adamw's */
    double ema_decay_before;
};

/* x = value, for count elements. */
struct fill_args {
    int64_t count;
    float *x;
    float value;
};

#define OP_TRAINING(name) void ref_##name(struct device *d, const struct name##_args *a);
#include "kernels/ops.def"

#endif
