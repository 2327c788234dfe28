#ifndef CCLD_DIFFUSION_SAMPLER_H
#define CCLD_DIFFUSION_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/tape.h"

/* Samplers integrate dx/dt of a model that predicts v = alpha noise - sigma x_0 along the steps of
 * a schedule. They are pure functions of tensors: the state may have any shape and layout, and is
 * on the tape's device. */

enum sampler_method {
    SAMPLER_DDPM, /* DDIM with eta 1 */
    SAMPLER_DDIM, /* Song et al., arXiv 2010.02502; first order */
    /* Pseudo numerical methods (PNDM): Liu et al., arXiv 2202.09778. All have convergence order
     * two, the first two with a smaller error. */
    SAMPLER_PRK,   /* Runge-Kutta: four evaluations per step */
    SAMPLER_PLMS,  /* linear multistep over four predictions, started by three steps of prk */
    SAMPLER_PIE,   /* improved Euler: two evaluations per step */
    SAMPLER_PLMS2, /* linear multistep over two predictions, started by one step of pie */
    SAMPLER_IPLMS, /* plms that starts with as many predictions as it has: one evaluation per step
                    */
    SAMPLER_DPM2M, /* DPM-Solver++(2M): Lu et al., arXiv 2211.01095; second order */
    SAMPLER_METHOD_COUNT
};
/* For option tables: in the order of the enum, then NULL. */
extern const char *const sampler_method_names[];

/* predict_v returns a new tensor of x's shape: v predicted at `time`, which applies to all of x. */
struct sampler_model {
    struct tensor *(*predict_v)(void *context, struct tape *t, struct tensor *x, float time);
    void *context;
};

struct sampler_options {
    enum sampler_method method;
    const float
        *steps; /* decreasing times (schedule_steps); 0 is appended if the method needs it */
    int count;
    double eta; /* SAMPLER_DDIM only: 0 is deterministic, 1 is DDPM */

    /* Integrates from an image to its noise: steps increase, nothing is appended, and the state at
     * the last step is returned. Not for DDPM, DPM2M or DDIM with eta. */
    bool reverse;

    /* Returns the noise to add, a new tensor of x's shape; call = 0, 1, ... Required for DDPM and
     * for DDIM with eta. */
    struct tensor *(*noise)(void *context, struct tape *t, const struct tensor *x, int call);
    void *noise_context;

    /* Called after every model evaluation, `done` of sampler_evaluations(); return false to stop.
     * May be NULL. */
    bool (*progress)(void *context, int done);
    void *progress_context;
};

/* The number of times sampler_run evaluates the model. */
int sampler_evaluations(const struct sampler_options *o);

/* Runs the method from x, which stays unchanged and the caller's. Returns the final state, which
 * the caller releases, or NULL if progress stopped it. count >= 1. */
struct tensor *sampler_run(struct tape *t, const struct sampler_options *o,
                           const struct sampler_model *model, struct tensor *x);

/* image * alpha + noise * sigma at `time`: the initial state for sampling from an image. */
struct tensor *sampler_add_noise(struct tape *t, struct tensor *image, struct tensor *noise,
                                 float time);

#endif
