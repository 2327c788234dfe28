#ifndef CCLD_FIT_LOOP_H
#define CCLD_FIT_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/data/order.h"
#include "common/data/read_ahead.h"
#include "common/run/checkpoint.h"
#include "common/run/metrics.h"
#include "common/train/collective.h"
#include "common/train/schedules.h"
#include "common/train/step.h"

/* The training loop of any network: steps, and between them metrics, held-out losses, checkpoints
 * and demo grids, until the end, a signal or too many failed steps. A trainee knows the network,
 * its data and its loss. */

struct fit_loop;

/* Numbers for metrics; names are static. */
#define FIT_NUMBERS_MAX 32
struct fit_numbers {
    struct metric items[FIT_NUMBERS_MAX];
    int count;
    char text[192]; /* from evaluate: the same as text, "held-out loss 0.0712, PSNR 30.1 dB" */
};
void fit_number(struct fit_numbers *n, const char *name, double value); /* appends */

/* All of these are called by the thread that runs the loop. With several ranks, each has a trainee,
 * and all make the same calls. Those marked optional may be NULL. */
struct trainee_functions {
    /* f is the first member of the trainee's own struct. After a failure, close is not called. */
    int (*open)(const struct fit_loop *f, void **trainee, struct error *e);
    void (*close)(void *trainee);
    struct updater *(*updater)(void *trainee);
    /* Reads the data of micro-batch k of step `step` (both count from 0; the reader knows the
     * place), runs forward and backward. Must not wait for the device needlessly. */
    int (*micro_batch)(void *trainee, int64_t step, int64_t k, struct error *e);
    /* After all micro-batches of a step: sums over ranks, updates weights and EMA or changes
     * nothing. */
    void (*update)(void *trainee, double learning_rate, double ema_decay, struct step_result *r);
    /* Numbers about the held-out records and a text; items[0] is the loss to report. 1: given up
     * because fit_stop_requested, -1: data cannot be read. */
    int (*evaluate)(void *trainee, struct fit_numbers *n, struct error *e);
    /* Optional: more numbers about the steps since the last call, appended to the loop's. */
    void (*numbers)(void *trainee, struct fit_numbers *n);
    /* Seconds that micro_batch has waited for data so far. */
    double (*waited)(void *trainee);
    /* The path of a sample, or what else identifies it; malloc'ed. */
    char *(*describe)(void *trainee, uint64_t sample);
    /* Optional: makes RUN/demo/<step, 8 digits>.png and puts it into m. 1: *stop ended it. */
    int (*demo)(void *trainee, const char *run, int64_t step, struct metrics *m, struct error *e);
    /* Optional: warnings about the network and its data, after fit_loop_announce's line. */
    void (*announce)(const struct fit_loop *f);
    /* Bytes needed at the peak of training with step options o on a device like this. */
    int64_t (*memory)(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like);
    bool can_recompute; /* the network honors step_options.recompute */
};

/* Options of the loop. common/fit/trainer.h has their rows of the option table. */
struct fit_options {
    struct step_options step;
    struct learning_rate_options rate; /* steps 0: the end of the run */
    int64_t ema_decay_at;
    int64_t steps, epochs; /* where the run ends, whichever comes first; 0: nowhere */
    int64_t holdout;       /* records that are not trained on */
    /* In steps; 0: never, but held-out losses and a checkpoint once at the end. */
    int64_t checkpoint_every, holdout_every, demo_every;
    int64_t log_every;     /* steps, at least 1 */
    int64_t keep;          /* checkpoints: see checkpoint_save */
    int64_t max_bad_steps; /* that many in a row end the run */
};

/* What a run works on; all of it belongs to the caller and must outlive the call. The first member
 * of a trainee's struct. */
struct fit_loop {
    struct fit_options options;
    bool resumed; /* the state is that of a checkpoint ... */
    bool saved;   /* ... of this very run */
    bool demos;   /* make demo grids */
    const struct trainee_functions *functions;
    const struct order *order;     /* of the data */
    struct parameters *parameters; /* what is trained and saved; their EMA is what is evaluated */
    struct collective *collective;
    struct run *run;
    struct training_state *state;      /* step, place in the data, counters; kept up to date */
    const volatile sig_atomic_t *stop; /* not 0: save and stop */
};

enum fit_end {
    FIT_COMPLETE, /* --steps or --epochs reached */
    FIT_STOPPED,  /* *stop was set */
    FIT_BAD,      /* max_bad_steps in a row were not finite: nothing was saved, e has the reason */
};

/* Saves a checkpoint at the end, complete or stopped. -1: the run cannot continue or the last
 * checkpoint cannot be written. */
int fit_loop_run(const struct fit_loop *f, enum fit_end *end, struct error *e);

/* Prints what is about to be trained and how much memory it needs. */
void fit_loop_announce(const struct fit_loop *f, int64_t memory_bytes);

/* Steps from the state to the end of the run; -1 if it has none. */
int64_t fit_loop_steps_left(const struct fit_loop *f);

/* For trainees: where the reader of a run's data begins, and whether *stop is set on any rank, on
 * which all of them agree. */
struct batch_reader_options fit_loop_reader_options(const struct fit_loop *f);
bool fit_stop_requested(const struct fit_loop *f);

#endif
