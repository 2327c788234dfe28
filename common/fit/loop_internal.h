#ifndef CCLD_FIT_LOOP_INTERNAL_H
#define CCLD_FIT_LOOP_INTERNAL_H

#include "common/fit/loop.h"

/* Shared by the parts of the training loop: steps (loop.c), what ranks agree on (loop_agree.c),
 * metrics and messages (loop_report.c). */

/* Sums over the steps since metrics were last logged. */
struct tally {
    int64_t steps, applied, images;
    double loss, gradient_norm;
    double begin, waited; /* seconds_now and the trainee's `waited` at that time */
};

struct loop {
    const struct fit_loop *f;
    void *trainee;
    struct training_state *s;
    int64_t effective_batch;
    struct metrics *metrics;
    struct tally tally;
    struct progress *progress;
    int64_t first_step; /* the state's when this process started */
    int64_t last_step;  /* -1: the run has no end */
    int64_t saved_step; /* of the last checkpoint; -1: none */
    double resumed_seconds, begin;
    bool metrics_failed;
};

bool loop_is_first_rank(const struct loop *l);

/* Before a micro-batch, agrees with the other ranks on going on. read: the status of its data. 1: a
 * signal has arrived. */
int loop_agree(struct loop *l, int read, struct error *e);

int loop_open_metrics(struct loop *l, struct error *e);
void loop_reset_tally(struct loop *l);
void loop_add_to_tally(struct loop *l, const struct step_result *r);
/* Logs the steps since the tally was reset, and resets it. */
void loop_log_steps(struct loop *l);
/* Evaluates the held-out records and logs the result. */
int loop_log_holdout(struct loop *l, struct error *e);
/* Scores the checkpoint of this step, logs and keeps the scores and makes RUN/best point to the
 * best one. The first rank calls it. */
void loop_score(struct loop *l);
/* Warns that an update was skipped and names some of its samples; metrics.jsonl names all. */
void loop_report_bad_step(struct loop *l, const struct step_result *r);

#endif
