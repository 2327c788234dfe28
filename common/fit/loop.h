#ifndef CCLD_FIT_LOOP_H
#define CCLD_FIT_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/data/order.h"
#include "common/data/read_ahead.h"
#include "common/data/unreadable.h"
#include "common/run/checkpoint.h"
#include "common/run/metrics.h"
#include "common/train/collective.h"
#include "common/train/schedules.h"
#include "common/train/step.h"

/* The training loop of any network: steps and, between them, metrics, held-out losses, checkpoints
 * and demo grids, until the run ends, a signal arrives or too many steps fail. The network, its
 * data and its loss are a trainee's. */

struct fit_loop;

/* Numbers for metrics. Names are string literals. */
#define FIT_NUMBERS_MAX 32
struct fit_numbers {
    struct metric items[FIT_NUMBERS_MAX];
    int count;
    char text[192]; /* from evaluate: a summary, "held-out loss 0.0712, PSNR 30.1 dB" */
};
void fit_number(struct fit_numbers *n, const char *name, double value); /* appends */

/* A trainee. The thread that runs the loop makes all calls. With several ranks, each has its own
 * trainee, and all make the same calls. Functions marked optional may be NULL. */
struct trainee_functions {
    size_t size; /* of the trainee's struct, which starts zeroed */
    /* f is the first member of a larger struct with the trainee's own options. close is called even
     * after a failure. */
    int (*open)(void *trainee, const struct fit_loop *f, struct error *e);
    void (*close)(void *trainee);
    struct updater *(*updater)(void *trainee);
    /* Reads the data of micro-batch k of step `step`; both count from 0. */
    int (*read)(void *trainee, int64_t step, int64_t k, struct error *e);
    /* Runs forward and backward passes on the data that were read last, without waiting for the
     * device needlessly. */
    void (*micro_batch)(void *trainee);
    /* After all micro-batches of a step: sums gradients over ranks, then updates weights and EMA or
     * leaves them unchanged. */
    void (*update)(void *trainee, double learning_rate, double ema_decay, struct step_result *r);
    /* Numbers about the held-out records and their summary; items[0] is the loss to report.
     * 1: abandoned because of fit_stop_requested, -1: the data cannot be read. All ranks return
     * the same: see fit_agree. */
    int (*evaluate)(void *trainee, struct fit_numbers *n, struct error *e);
    /* Optional: appends further numbers about the steps since the last call. */
    void (*numbers)(void *trainee, struct fit_numbers *n);
    /* Seconds that `read` has waited for data so far. */
    double (*waited)(void *trainee);
    struct unreadable *(*unreadable)(void *trainee); /* of its data */
    /* The path of a sample, or another description if it is unknown; malloc'ed. */
    char *(*describe)(void *trainee, uint64_t sample);
    /* Optional: makes a demo grid (common/fit/demo.h) and adds it to m. 1: *stop ended it. */
    int (*demo)(void *trainee, const char *run, int64_t step, struct metrics *m, struct error *e);
    /* Optional: scores the checkpoint that has just been written, of averaged weights that are in
     * memory: numbers for metrics, BEST_BY among them. 1: *stop ended it. Only the first rank calls
     * it. */
    int (*score)(void *trainee, struct fit_numbers *n, struct error *e);
    /* Optional: prints warnings about the network and its data, after fit_loop_announce's line. */
    void (*announce)(const struct fit_loop *f);
    /* Bytes needed at the peak of training with step options o on a device like this. */
    int64_t (*memory)(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like);
    /* Bytes that the process needs besides, for the data. */
    int64_t (*data_memory)(const struct fit_loop *f, const struct batch_reader_options *o);
    bool can_recompute; /* the network honors step_options.recompute */
};

#define FIT_UNREADABLE_ALWAYS 10

/* Options of the loop. Their rows of the option table are in common/fit/trainer.h. */
struct fit_options {
    struct step_options step;
    struct learning_rate_options rate;
    int64_t ema_decay_at;
    int64_t steps, epochs; /* the run ends at whichever comes first; 0: no limit */
    int64_t holdout;       /* held-out records */
    /* Intervals in steps. 0: never, except for held-out losses at the start and the end and a
     * checkpoint at the end. */
    int64_t checkpoint_every, holdout_every, demo_every;
    int64_t score_every;   /* steps; 0: checkpoint_every */
    int64_t log_every;     /* steps, at least 1 */
    int64_t keep;          /* checkpoints, see checkpoint_save */
    int64_t max_bad_steps; /* this many in a row end the run */
    /* A larger fraction of the records than this, and more than FIT_UNREADABLE_ALWAYS of them, end
     * the run. */
    double max_unreadable;
};

/* A run. Everything it points to belongs to the caller and must outlive the call. Trainees expect
 * it as the first member of a larger struct, e.g. struct fit_unet. */
struct fit_loop {
    struct fit_options options;
    bool resumed; /* the state comes from a checkpoint ... */
    bool saved;   /* ... of this run, not of another folder */
    bool demos;   /* make demo grids */
    bool scores;  /* score checkpoints */
    const struct trainee_functions *functions;
    const struct order *order; /* of the data */
    struct parameters *parameters;
    struct collective *collective;
    struct run *run;
    struct training_state *state;      /* step, position in the data, counters; kept up to date */
    const volatile sig_atomic_t *stop; /* not 0: save and stop */
};

enum fit_end {
    FIT_COMPLETE, /* the limit of steps or epochs was reached */
    FIT_STOPPED,  /* *stop was set */
    FIT_BAD,      /* max_bad_steps in a row were not finite; nothing was saved, e has the reason */
};

/* All ranks call it. Saves a checkpoint at the end, whether complete, stopped or unable to
 * continue, but not if the network is broken. -1: the run cannot continue, or its last checkpoint
 * cannot be written; e is empty where the first rank has said why. */
#define FIT_CANNOT_CONTINUE "cannot continue training: %s"
int fit_loop_run(const struct fit_loop *f, enum fit_end *end, struct error *e);

/* Prints the sizes of what will be trained and the memory it needs. */
void fit_loop_announce(const struct fit_loop *f, int64_t memory_bytes);

/* Steps from the state to the end of the run; -1 if it has no limit. */
int64_t fit_loop_steps_left(const struct fit_loop *f);

/* For trainees: where to start reading the data, and whether *stop is set on any rank, which is the
 * same answer on all of them. */
struct batch_reader_options fit_loop_reader_options(const struct fit_loop *f);
bool fit_stop_requested(const struct fit_loop *f);
/* For what may fail on one rank: 0 if `status` is 0 on all of them, otherwise -1 and the reason of
 * the first rank where it is not. */
int fit_agree(const struct fit_loop *f, int status, struct error *e);

#endif
