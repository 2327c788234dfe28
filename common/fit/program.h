#ifndef CCLD_FIT_PROGRAM_H
#define CCLD_FIT_PROGRAM_H

#include "common/base/options.h"
#include "common/fit/loop.h"
#include "common/run/origin.h"

/* What the programs that train share: options, where a run comes from, signals, the last line. All
 * functions end the program where something is wrong. */

struct fit_tool_options {
    const char *run, *resume, *init_from, *betas;
    int64_t steps, epochs, batch_size, accumulate, warmup, ema_decay_at;
    int64_t checkpoint_every, keep, log_every, holdout, holdout_every, max_bad_steps;
    double lr, weight_decay, clip_grad;
    int lr_schedule;
    uint64_t seed;
};

#define FIT_TOOL_DEFAULTS                                                                          \
    .accumulate = 1, .ema_decay_at = EMA_DECAY_AT_DEFAULT, .checkpoint_every = 5000,               \
    .log_every = 50, .holdout_every = 1000, .max_bad_steps = 10

#define FIT_TOOL_STEPS_MAX 67108863 /* what the random streams count to */

/* Rows of an option table, o being a struct fit_tool_options. */
/* clang-format off */
#define FIT_TOOL_OPTIONS_BEGIN(o)                                                                  \
    {"output", 'o', OPTION_STRING, &(o).run, "RUN", "folder of the run, to be made", 0, 0, NULL},  \
    {"resume", 0, OPTION_STRING, &(o).resume, "RUN|CKPT",                                          \
     "go on from a run's last checkpoint or from this one, with its options", 0, 0, NULL},         \
    {"init-from", 0, OPTION_STRING, &(o).init_from, "FILE",                                        \
     "finetune: begin with these weights and this architecture", 0, 0, NULL},                      \
    {"steps", 0, OPTION_INT, &(o).steps, "N", "end after step N of the run, 0 for never", 0,       \
     FIT_TOOL_STEPS_MAX, NULL},                                                                    \
    {"epochs", 0, OPTION_INT, &(o).epochs, "N", "end after epoch N of the run, 0 for never", 0,    \
     1e9, NULL},                                                                                   \
    {"batch-size", 'b', OPTION_INT, &(o).batch_size, "N",                                          \
     "images of a step on a device at a time", 1, 65536, NULL},                                    \
    {"accumulate", 0, OPTION_INT, &(o).accumulate, "K",                                            \
     "batches of a step, one after the other", 1, 65536, NULL},                                    \
    {"lr", 0, OPTION_FLOAT, &(o).lr, "X", "learning rate, whatever the batch", 0, 1e3, NULL},      \
    {"lr-schedule", 0, OPTION_CHOICE, &(o).lr_schedule, "NAME", "how the rate falls", 0, 0,        \
     learning_rate_schedules},                                                                     \
    {"warmup", 0, OPTION_INT, &(o).warmup, "N", "steps in which the rate rises to its value", 0,   \
     FIT_TOOL_STEPS_MAX, NULL},                                                                    \
    {"weight-decay", 0, OPTION_FLOAT, &(o).weight_decay, "X", "of AdamW", 0, 1e3, NULL},           \
    {"betas", 0, OPTION_STRING, &(o).betas, "B1,B2", "of AdamW", 0, 0, NULL},                      \
    {"clip-grad", 0, OPTION_FLOAT, &(o).clip_grad, "X",                                            \
     "largest norm of the gradient, 0 for any", 0, 1e12, NULL},                                    \
    {"ema-decay-at", 0, OPTION_INT, &(o).ema_decay_at, "N",                                        \
     "step from which on weights are averaged over 10000 steps", 0, 1e12, NULL}

#define FIT_TOOL_OPTIONS_END(o)                                                                    \
    {"checkpoint-every", 0, OPTION_INT, &(o).checkpoint_every, "N",                                \
     "steps between checkpoints, 0 for one at the end", 0, FIT_TOOL_STEPS_MAX, NULL},              \
    {"keep", 0, OPTION_INT, &(o).keep, "N", "keep the N last checkpoints, 0 for all", 0, 1e9,      \
     NULL},                                                                                        \
    {"log-every", 0, OPTION_INT, &(o).log_every, "N", "steps between lines of metrics", 1,         \
     FIT_TOOL_STEPS_MAX, NULL},                                                                    \
    {"holdout", 0, OPTION_INT, &(o).holdout, "N",                                                  \
     "images that are not trained on but judged with", 0, 1e9, NULL},                              \
    {"holdout-every", 0, OPTION_INT, &(o).holdout_every, "N",                                      \
     "steps between held-out losses, 0 for one at the end", 0, FIT_TOOL_STEPS_MAX, NULL},          \
    {"max-bad-steps", 0, OPTION_INT, &(o).max_bad_steps, "N",                                      \
     "give up after so many steps in a row that are not finite", 1, FIT_TOOL_STEPS_MAX, NULL}
/* clang-format on */

/* `count` numbers with commas between them, no more and no less; fewer are possible where at_least
 * is smaller. Returns how many there are. */
int fit_tool_parse_numbers(double *numbers, int at_least, int count, const char *option,
                           const char *text);
/* The same, whole numbers from 1 to 1024. */
int fit_tool_parse_multipliers(int64_t *multipliers, int at_least, int count, const char *option,
                               const char *text);

/* All of the loop's options but demo_every, resumed and saved; adamw with weight_decay and betas,
 * else the defaults. */
struct fit_loop_options fit_tool_loop_options(const struct fit_tool_options *o,
                                              struct adamw_options *adamw);

/* Where a run comes from; zeroed: it begins anew. */
struct fit_tool_origin {
    struct fit_origin at;
    struct training_state saved;
    char *changes; /* what the command line changed; NULL: nothing */
};
/* With --resume: finds the checkpoint and sets the program's options as they were saved where the
 * command line does not say otherwise; `architecture` (names, NULL at the end) may only be given as
 * they were. `except`: options that a checkpoint does not keep. */
void fit_tool_read_origin(struct fit_tool_origin *o, struct fit_tool_options *options,
                          const struct program *program, const char *const *architecture,
                          const char *const *except);
void fit_tool_release_origin(struct fit_tool_origin *o);

/* The state a run begins with: that of the checkpoint without its options, or a new one. */
void fit_tool_prepare_state(struct training_state *s, const struct fit_tool_origin *o);
/* The folder of the run; refuses `architecture` beside --init-from. */
const char *fit_tool_run_folder(const struct fit_tool_options *options,
                                const struct fit_tool_origin *o, const char *const *architecture);

/* SIGINT, SIGTERM and SIGUSR1 set fit_tool_stop; the second of them ends the program. */
extern volatile sig_atomic_t fit_tool_stop;

/* Says what a resumed run goes on from. */
void fit_tool_announce_origin(const struct fit_tool_origin *o);

/* Catches signals, calls run(context), which is fit_loop_run or calls it, and says what came of
 * it. s, r: the run's. */
void fit_tool_train(const struct training_state *s, const struct run *r, int64_t effective_batch,
                    int (*run)(const void *context, enum fit_end *end, struct error *e),
                    const void *context);

#endif
