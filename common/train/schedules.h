#ifndef CCLD_TRAIN_SCHEDULES_H
#define CCLD_TRAIN_SCHEDULES_H

#include <stdbool.h>
#include <stdint.h>

/* Schedules of the learning rate and the EMA decay: pure functions of the step. */

struct adamw_options {
    double beta1, beta2, epsilon, weight_decay;
};
#define ADAMW_DEFAULTS                                                                             \
    {                                                                                              \
        .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01                        \
    }

enum learning_rate_schedule { LEARNING_RATE_CONSTANT, LEARNING_RATE_COSINE };
/* For option tables: in the order of the enum, then NULL. */
extern const char *const learning_rate_schedules[];

struct learning_rate_options {
    int schedule; /* enum learning_rate_schedule; an int for option tables */
    double base;
    int64_t warmup; /* steps of linear warmup: step s of them runs at base * (s + 1) / warmup */
    bool exponential_warmup; /* instead: the schedule starts at step 0, and every step s runs at its
                                rate times 1 - (1 - 1/warmup)^s */
    int64_t steps;           /* of the whole run, at the end of which cosine reaches 0 */
};
/* The learning rate of step s, counted from 0. */
double learning_rate_at(const struct learning_rate_options *o, int64_t step);

/* The EMA decay after update number `updates` (counted from 1): .99 below 20000, .999 below
 * `decay_at`, then .9999. */
double ema_decay_at(int64_t updates, int64_t decay_at);
#define EMA_DECAY_AT_DEFAULT 200000

#endif
