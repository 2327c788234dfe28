#ifndef CCLD_DIFFUSION_GUIDANCE_H
#define CCLD_DIFFUSION_GUIDANCE_H

#include <stdbool.h>

#include "kernels/tape.h"

/* Classifier-free guidance (Ho & Salimans, arXiv 2207.12598) with any number of conditions: the
 * prediction is a sum over [unconditional, prompt 1, prompt 2, ...] with weights
 * [1 - sum w, w_1, w_2, ...]. */

/* Fills weights[0 .. prompts] from prompt_weights[0 .. prompts-1]. */
void guidance_weights(float *weights, const double *prompt_weights, int prompts);

/* The prompts without guidance, for times where it does harm: [0, w_1/s, w_2/s, ...], s = sum w
 * (Kynkaanniemi et al., "Applying guidance in a limited interval improves sample and distribution
 * quality in diffusion models", arXiv 2404.07724). guided, weights: [prompts + 1]. False where s is
 * 0, so that there are none. */
bool guidance_unguided_weights(float *weights, const float *guided, int prompts);

/* sum_i weights[i] * v[i], i < count: a new tensor. All of one shape; count >= 1, no upper limit.
 * Not all weights are 0; where one is, v[i] is not read and may be NULL: a prompt of weight 1 alone
 * needs no unconditional prediction. */
struct tensor *guidance_combine(struct tape *t, int count, struct tensor *const *v,
                                const float *weights);

#endif
