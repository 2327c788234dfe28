#ifndef CCLD_FIT_LOOP_H
#define CCLD_FIT_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/data/order.h"
#include "common/run/checkpoint.h"
#include "common/run/metrics.h"
#include "common/train/collective.h"
#include "common/train/schedules.h"
#include "common/train/updater.h"

/* The loop that trains any network: steps, and between them numbers for people, held-out losses,
 * checkpoints and demos, until the end, a signal or too many steps that came to nothing. What is
 * trained, on what data and by which loss is a trainee's. */

/* What a step came to. */
struct fit_outcome {
    double loss;          /* mean over the effective batch of all ranks */
    double gradient_norm; /* L2, of that loss, before clipping */
    bool applied;         /* false: loss or gradient not finite, the weights are as before */
    bool rescaled;        /* not applied, but only since the loss scale was too large */
    struct loss_scale loss_scale;
    const uint64_t *suspects; /* samples that a step which was not applied is to be blamed on; valid
                                 until the next micro-batch */
    int64_t suspect_count;
};

/* Numbers for metrics; names are static. */
#define FIT_NUMBERS_MAX 32
struct fit_numbers {
    struct metric items[FIT_NUMBERS_MAX];
    int count;
    char text[192]; /* of evaluate: the same for people, "held-out loss 0.0712, PSNR 30.1 dB" */
};
void fit_number(struct fit_numbers *n, const char *name, double value); /* appends */

/* All of these are called by the thread that runs the loop. Where there are several ranks, each has
 * a trainee, and all make the same calls. */
struct trainee_functions {
    /* Reads its data of micro-batch k of step `step` (both count from 0; the reader knows the
     * place), runs forward and backward. Must not wait for the device without need. */
    int (*micro_batch)(void *trainee, int64_t step, int64_t k, struct error *e);
    /* After all micro-batches of a step: sums over ranks, updates parameters and moving average or
     * changes nothing. */
    void (*update)(void *trainee, double learning_rate, double ema_decay, struct fit_outcome *r);
    /* Numbers about the held-out records and a text; items[0] is the loss that counts. 1: it was
     * given up as fit_stop_wanted wanted, -1: data cannot be read. */
    int (*evaluate)(void *trainee, struct fit_numbers *n, struct error *e);
    /* More numbers of the steps since the last call, appended to those of the loop. May be NULL. */
    void (*numbers)(void *trainee, struct fit_numbers *n);
    /* Seconds that micro_batch has waited for data so far. */
    double (*waited)(void *trainee);
    /* The path of a sample, or what else tells people which it is; malloc'ed. */
    char *(*describe)(void *trainee, uint64_t sample);
    /* Makes RUN/demo/<step, 8 digits>.png and puts it into m. 1: *stop ended it. NULL: no demos. */
    int (*demo)(void *trainee, const char *run, int64_t step, struct metrics *m, struct error *e);
};

struct fit_loop_options {
    int64_t batch, accumulate; /* samples of a micro-batch on a rank, micro-batches of a step */
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
struct fit_loop {
    struct fit_loop_options options;
    const struct trainee_functions *functions;
    void *trainee;
    const struct order *order;     /* of the data */
    struct parameters *parameters; /* what is trained and saved; its average is what counts */
    struct collective *collective;
    struct run *run;
    struct training_state *state; /* step, at, counters: where the run stands; kept up to date */
    const volatile sig_atomic_t *stop; /* not 0: save and come to an end */
};

enum fit_end {
    FIT_COMPLETE, /* --steps or --epochs reached */
    FIT_STOPPED,  /* as *stop wanted */
    FIT_BAD,      /* max_bad_steps in a row were not finite: nothing was saved, e has the reason */
};

/* Saves a checkpoint at the end, complete or stopped. -1: the run cannot go on or the last
 * checkpoint cannot be written. */
int fit_loop_run(const struct fit_loop *f, enum fit_end *end, struct error *e);

/* Tells people what is about to be trained and what it takes. */
void fit_loop_announce(const struct fit_loop *f, int64_t memory_bytes);

/* Samples of all ranks' micro-batches of a step. */
int64_t fit_loop_effective_batch(const struct fit_loop *f);
/* Steps from state to the end of the run; -1 where there is none. */
int64_t fit_loop_steps_left(const struct fit_loop_options *o, const struct order *order,
                            const struct training_state *s, int64_t effective_batch);

/* Whether *stop is set on any rank: what all of them agree on. */
bool fit_stop_wanted(const volatile sig_atomic_t *stop, struct collective *c);

#endif
