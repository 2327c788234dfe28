#ifndef CCLD_DIFFUSION_SAMPLER_H
#define CCLD_DIFFUSION_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tape.h"

/* Samplers solve dx/dt of a model that predicts v = alpha noise - sigma x_0, one step of the
 * schedule after another. They are pure functions of tensors: the state may have any shape and
 * layout, and lies on the tape's device. */

enum sampler_method {
    SAMPLER_DDPM, /* DDIM with eta 1 */
    SAMPLER_DDIM, /* Song et al., arXiv 2010.02502; first order */
    /* Pseudo numerical methods (PNDM): Liu et al., arXiv 2202.09778. All converge with second
     * order, the first two with the smaller error. */
    SAMPLER_PRK,   /* Runge-Kutta's four evaluations in every step */
    SAMPLER_PLMS,  /* linear multistep over four predictions, started by three steps of prk */
    SAMPLER_PIE,   /* improved Euler: two evaluations in every step */
    SAMPLER_PLMS2, /* linear multistep over two predictions, started by one step of pie */
    SAMPLER_IPLMS, /* plms that starts with what predictions it has: one evaluation in every step */
    SAMPLER_DPM2M, /* DPM-Solver++(2M): Lu et al., arXiv 2211.01095; second order */
    SAMPLER_METHOD_COUNT
};
/* For option tables: in the order of the enum, then NULL. */
extern const char *const sampler_method_names[];

/* Returns a new tensor of x's shape: the predicted v at `time`, the same for all of x. */
struct sampler_model {
    struct tensor *(*predict_v)(void *context, struct tape *t, struct tensor *x, float time);
    void *context;
};

struct sampler_options {
    enum sampler_method method;
    const float
        *steps; /* decreasing times (schedule_steps); 0 is appended where a method needs it */
    int count;
    double eta; /* SAMPLER_DDIM only: 0 is deterministic, 1 is DDPM */

    /* From an image to its noise: steps increase, nothing is appended, the state at the last of
     * them is returned. Any method but DDPM, DPM2M and DDIM with eta. */
    bool reverse;

    /* Noise to add, a new tensor of x's shape; call = 0, 1, ... Needed for DDPM and DDIM with eta.
     */
    struct tensor *(*noise)(void *context, struct tape *t, const struct tensor *x, int call);
    void *noise_context;

    /* After every model evaluation, `done` of sampler_evaluations(); false stops. May be NULL. */
    bool (*progress)(void *context, int done);
    void *progress_context;
};

/* How often sampler_run calls the model. */
int sampler_evaluations(const struct sampler_options *o);

/* Runs the whole method from x (not changed, not taken) and returns the final state, the caller's,
 * or NULL when progress stopped it. count >= 1. */
struct tensor *sampler_run(struct tape *t, const struct sampler_options *o,
                           const struct sampler_model *model, struct tensor *x);

/* image * alpha + noise * sigma at `time`: what a start from an image begins with. */
struct tensor *sampler_add_noise(struct tape *t, struct tensor *image, struct tensor *noise,
                                 float time);

#endif
