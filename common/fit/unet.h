#ifndef CCLD_FIT_UNET_H
#define CCLD_FIT_UNET_H

#include <signal.h>

#include "common/data/latent_set.h"
#include "common/fit/demo.h"
#include "common/fit/loop.h"
#include "common/train/unet_step.h"

/* Training of a U-Net on shards: common/fit/loop.h with common/train/unet_step.h and
 * common/data/latent_set.h. */
struct fit_options {
    struct unet_step_options step;
    int64_t embed_neighbours; /* at most so many: common/data/embed_neighbours.h; 0: none */
    struct learning_rate_options rate;
    int64_t ema_decay_at;
    int64_t steps, epochs; /* where the run ends, whichever comes first; 0: not there */
    int64_t checkpoint_every, keep, log_every, holdout_every, demo_every; /* steps; keep: see
                                                                             checkpoint_save */
    int64_t max_bad_steps; /* so many in a row end the run */
    bool resumed;          /* the state is that of a checkpoint ... */
    bool saved;            /* ... of this very run */
};

/* What a run works on; all of it belongs to the caller and must outlive the call. */
struct fit {
    struct fit_options options;
    struct parameters *parameters;
    struct latent_set *data;
    struct collective *collective;
    struct run *run;
    struct demo *demo;            /* NULL: none */
    struct training_state *state; /* step, at, counters: where the run stands; kept up to date */
    const volatile sig_atomic_t *stop; /* not 0: save and come to an end */
};

/* Tells people what is about to be trained and what it takes, and warns when the network is likely
 * to learn the data by heart. */
void fit_announce(const struct fit *f, int64_t memory_bytes);

/* As fit_loop_run. */
int fit_run(const struct fit *f, enum fit_end *end, struct error *e);

/* Steps from state to the end of the run; -1 where there is none. */
int64_t fit_steps_left(const struct fit_options *o, const struct latent_set *d,
                       const struct training_state *s, int64_t effective_batch);

#endif
