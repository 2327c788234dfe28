#ifndef CCLD_RUN_BEST_H
#define CCLD_RUN_BEST_H

#include "common/run/checkpoint.h"
#include "common/run/metrics.h"

/* Which of a run's checkpoints is the best one: scores are kept in RUN/step-00050000/score.json, a
 * JSON object of numbers, and RUN/best is a symbolic link to the checkpoint where BEST_BY is
 * lowest. */
#define BEST_BY "score/kernel"

bool run_has_score(const struct run *r, int64_t step);
/* Keeps the scores of the checkpoint of this step. One of them is BEST_BY. */
int run_keep_score(struct run *r, int64_t step, const struct metric *scores, int count,
                   struct error *e);
/* Makes RUN/best point to the best of the checkpoints up to step `step`, the first of equal ones,
 * if any has a score, and then prunes the run. *best: its step, or -1. */
int run_choose_best(struct run *r, int64_t step, int64_t keep, int64_t *best, struct error *e);
/* The step of the checkpoint that RUN/best points to; -1: there is none. */
int64_t run_best(const char *folder);

#endif
