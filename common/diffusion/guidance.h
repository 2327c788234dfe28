#ifndef CCLD_DIFFUSION_GUIDANCE_H
#define CCLD_DIFFUSION_GUIDANCE_H

#include <stdbool.h>

#include "kernels/tape.h"

/* Classifier-free guidance (Ho & Salimans, arXiv 2207.12598) with any number of conditions: the
 * prediction is a sum over [unconditional, prompt 1, prompt 2, ...] with weights
 * [1 - sum w, w_1, w_2, ...]. */

/* Fills weights[0 .. prompts] from prompt_weights[0 .. prompts - 1]. */
void guidance_weights(float *weights, const double *prompt_weights, int prompts);

/* The weights without guidance, for timesteps at which it does harm: [0, w_1/s, w_2/s, ...] with
 * s = sum w (Kynkaanniemi et al., "Applying guidance in a limited interval improves sample and
 * distribution quality in diffusion models", arXiv 2404.07724). guided, weights: [prompts + 1].
 * Returns false if s is 0, so that they do not exist. */
bool guidance_unguided_weights(float *weights, const float *guided, int prompts);

/* Returns a new tensor: sum_i weights[i] * v[i] over i < count, all of one shape. count >= 1 has no
 * upper limit. At least one weight must not be 0. v[i] is not read, and may be NULL, if weights[i]
 * is 0: a single prompt of weight 1 needs no unconditional prediction. */
struct tensor *guidance_combine(struct tape *t, int count, struct tensor *const *v,
                                const float *weights);

#endif
