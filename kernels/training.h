#ifndef CCLD_KERNELS_TRAINING_H
#define CCLD_KERNELS_TRAINING_H

#include "kernels/ops.h"

/* Ops of a training step that no gradient flows through. Same conventions as ops.h: NAME_args for
 * backends, everything validated, every output element written. */

/* Normals of common/base/rng.h's rng_normal: row i of y [n, count] is elements 0 .. count of sample
 * draws[i, 0] at step draws[i, 1]. draws: I64 [n, 2]. The same bits on every device. */
struct normals_args {
    uint64_t seed;
    int purpose; /* enum rng_purpose */
    const struct tensor *draws;
    struct tensor *y;
};

/* What the U-Net is trained on. moments [n, 2z, h, w]: means, log-variances; the rest [n, z, h, w].
 * latent = (mean + exp(clamp(logvar, -30, 20) / 2) * posterior_noise) / scale;
 * noisy = alpha[i] * latent + sigma[i] * noise; target = alpha[i] * noise - sigma[i] * latent.
 * alpha, sigma: [n]. All F32. (Salimans and Ho, arXiv 2202.00512, v-prediction.) */
struct noised_latents_args {
    const struct tensor *moments, *posterior_noise, *noise, *alpha, *sigma;
    float scale;
    struct tensor *noisy, *target;
};

/* loss[i] (F32 [n]) = mean over image i of (x - target)^2; dx = 2 (x - target) * weight[0]: that is
 * 1 / elements of the whole (effective) batch for the gradient of its mean loss, times the loss
 * scale of mixed precision. All F32; weight is of one element. Where loss[i] is not finite, so is
 * the first element of the image's dx. dx may be NULL, weight then too. */
struct mse_args {
    const struct tensor *x, *target, *weight;
    struct tensor *loss, *dx;
};

/* One step over `count` elements of flat arrays: AdamW (Loshchilov and Hutter, arXiv 1711.05101, as
 * torch.optim.AdamW), then the moving average ema = decay*ema + (1 - decay)*parameter.
 * gradient is multiplied by gradient_scale first (accumulation, clipping). step counts from 1. */
struct adamw_args {
    int64_t count;
    float *parameter, *m, *v, *ema; /* ema may be NULL */
    const float *gradient;
    double learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale, ema_decay;
    int64_t step;
};

/* *sum (host) = sum of squares of count elements: float partial sums over short blocks, joined in
 * double (1e-6 relative). Not finite where any element is not, or where its square overflows. */
struct sum_squares_args {
    int64_t count;
    const float *x;
    double *sum;
};

/* The end of a training step over `count` elements of flat arrays, without asking the host in
 * between: norm = sqrt(sum of gradient^2) / loss_scale; where that is finite, one step of adamw
 * with gradient_scale = min(1, clip / norm) / loss_scale (clip 0: never less), else nothing is
 * changed. result (host) is there when the call returns. */
struct update_result {
    double gradient_norm;
    bool applied;
};
struct update_args {
    int64_t count;
    float *parameter, *m, *v, *ema; /* ema may be NULL */
    const float *gradient;
    double learning_rate, beta1, beta2, epsilon, weight_decay, ema_decay, loss_scale, clip;
    int64_t step; /* what adamw counts: updates applied before this one + 1 */
    struct update_result *result;
};

/* x = value over count elements. */
struct fill_args {
    int64_t count;
    float *x;
    float value;
};

#define OP_TRAINING(name) void ref_##name(struct device *d, const struct name##_args *a);
#include "kernels/ops.def"

#endif
