#ifndef CCLD_FIT_TRAINER_H
#define CCLD_FIT_TRAINER_H

#include "common/base/options.h"
#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/fit/ranks.h"
#include "common/program/devices.h"
#include "common/run/origin.h"

/* What the training programs share, from the command line to the last message. The functions end
 * the program if anything fails. Call them in this order; set_data and plan_parameters may be
 * swapped, depending on which of them needs the other's result:
 *
 * - trainer_begin: checks options, reads the checkpoint to resume from, starts the ranks;
 * - trainer_plan_parameters: opens the device, finds the names and shapes of the weights;
 * - trainer_set_data: checks and records the data;
 * - trainer_make_parameters: checks memory, makes or loads the weights;
 * - trainer_run_folder: opens the run's folder;
 * - trainer_announce: prints what will be trained;
 * - trainer_run: runs the loop;
 * - trainer_end: releases everything. */

struct trainer {
    /* Set by the program. Lists of option names end with NULL. */
    const struct program *program;
    enum net net;
    const char *const *architecture; /* options that a checkpoint or --init-from determines */
    const char *const *fixed;        /* further options that --resume cannot change; NULL: none */
    const char *advice;              /* what to try if device memory runs out */
    const char *sample;              /* the noun for a sample: "image", "pair" */

    /* Options outside the loop's. */
    const char *run, *resume, *init_from, *betas;
    const char *devices_text; /* --devices */
    bool reads_stdin;         /* a list of images comes on standard input: trainer_expect_list */

    /* Filled by trainer_begin and the functions after it. */
    struct fit_loop *loop;
    struct device_list devices;
    int ranks_count;
    struct ranks ranks; /* if ranks_count > 1 */
    struct run_origin origin;
    struct training_state saved; /* the checkpoint's, if there is one */
    struct training_state state;
    char *changes; /* from run_options_restore */
    const char *folder;
    struct device *device, *dry; /* dry: has the planned parameters */
    bool (*frozen)(const char *name);
    struct architecture planned;
    int64_t memory; /* fit_memory's */
};

#define FIT_DEFAULTS                                                                               \
    .ema_decay_at = EMA_DECAY_AT_DEFAULT, .checkpoint_every = 5000, .log_every = 50,               \
    .holdout_every = 1000, .max_bad_steps = 10, .max_unreadable = 0.01

#define FIT_STEPS_MAX 67108863 /* the range of the random streams */

/* Rows of an option table; t is a struct trainer and o its loop's options. Each program has --seed
 * and its own options between the two parts. */
/* clang-format off */
#define FIT_OPTIONS_BEGIN(t, o)                                                                    \
    {.name = "output", .letter = 'o', .kind = OPTION_STRING, .value = &(t).run, .argument = "RUN", \
     .help = "folder of the run, created if needed"},                                              \
    {.name = "resume", .kind = OPTION_STRING, .value = &(t).resume, .argument = "RUN|CKPT",        \
     .help = "resume from a run's last checkpoint, or from a given one, with its options"},        \
    {.name = "init-from", .kind = OPTION_STRING, .value = &(t).init_from, .argument = "FILE",      \
     .help = "finetune: start from the weights and architecture of a file or run"},               \
    {.name = "steps", .kind = OPTION_INT, .value = &(o).steps, .argument = "N",                    \
     .help = "stop after step N of the run, 0 for no limit", .max = FIT_STEPS_MAX},                \
    {.name = "epochs", .kind = OPTION_INT, .value = &(o).epochs, .argument = "N",                  \
     .help = "stop after epoch N of the run, 0 for no limit", .max = 1e9},                         \
    {.name = "batch-size", .letter = 'b', .kind = OPTION_INT, .value = &(o).step.batch,            \
     .argument = "N", .help = "images per micro-batch on a device", .min = 1, .max = 65536},       \
    {.name = "accumulate", .kind = OPTION_INT, .value = &(o).step.accumulate, .argument = "K",     \
     .help = "accumulate gradients over K micro-batches per step", .min = 1, .max = 65536},        \
    {.name = "devices", .kind = OPTION_STRING, .value = &(t).devices_text,                         \
     .argument = "LIST",                                                                           \
     .help = "train on GPUs: all, a number or 0,2,5; on the CPU: a number of ranks (processes)"},  \
    {.name = "lr", .kind = OPTION_FLOAT, .value = &(o).rate.base, .argument = "X",                 \
     .help = "learning rate, not scaled with the batch size", .max = 1e3},                         \
    {.name = "lr-schedule", .kind = OPTION_CHOICE, .value = &(o).rate.schedule,                    \
     .argument = "NAME", .help = "learning-rate schedule", .choices = learning_rate_schedules},    \
    {.name = "warmup", .kind = OPTION_INT, .value = &(o).rate.warmup, .argument = "N",             \
     .help = "warmup steps of the learning rate, 0 for no warmup", .max = FIT_STEPS_MAX},          \
    {.name = "weight-decay", .kind = OPTION_FLOAT, .value = &(o).step.adamw.weight_decay,          \
     .argument = "X", .help = "weight decay of AdamW", .max = 1e3},                                \
    {.name = "betas", .kind = OPTION_STRING, .value = &(t).betas, .argument = "B1,B2",             \
     .help = "beta1 and beta2 of AdamW"},                                                          \
    {.name = "clip-grad", .kind = OPTION_FLOAT, .value = &(o).step.clip_grad, .argument = "X",     \
     .help = "clip the gradient to this norm, 0 for no clipping", .max = 1e12},                    \
    {.name = "ema-decay-at", .kind = OPTION_INT, .value = &(o).ema_decay_at, .argument = "N",      \
     .help = "update from which the EMA of the weights decays by 0.9999", .max = 1e12}

/* Of trainers that read images; o: how. */
#define FIT_OPTIONS_IMAGES(o)                                                                      \
    {.name = "pil-compat", .kind = OPTION_FLAG, .value = &(o).pil_compat,                          \
     .help = "convert colors as Pillow does: no orientation, color profile or alpha"},             \
    {.name = "allow-truncated", .kind = OPTION_FLAG, .value = &(o).allow_truncated,                \
     .help = "train on what a truncated JPEG, PNG or WebP has, the rest gray"},                    \
    {.name = "max-pixels", .kind = OPTION_INT, .value = &(o).max_pixels, .argument = "N",          \
     .help = "refuse images of more than N pixels", .min = 1, .max = 1e12}

#define FIT_OPTIONS_END(o)                                                                         \
    {.name = "checkpoint-every", .kind = OPTION_INT, .value = &(o).checkpoint_every,               \
     .argument = "N", .help = "steps between checkpoints, 0 for only one at the end",              \
     .max = FIT_STEPS_MAX},                                                                        \
    {.name = "keep", .kind = OPTION_INT, .value = &(o).keep, .argument = "N",                      \
     .help = "keep only the last N checkpoints, 0 for all", .max = 1e9},                           \
    {.name = "log-every", .kind = OPTION_INT, .value = &(o).log_every, .argument = "N",            \
     .help = "steps between lines of metrics", .min = 1, .max = FIT_STEPS_MAX},                    \
    {.name = "holdout", .kind = OPTION_INT, .value = &(o).holdout, .argument = "N",                \
     .help = "hold N images out of training to evaluate the network on", .max = 1e9},              \
    {.name = "holdout-every", .kind = OPTION_INT, .value = &(o).holdout_every, .argument = "N",    \
     .help = "steps between held-out evaluations, 0 for only start and end",                       \
     .max = FIT_STEPS_MAX},                                                                        \
    {.name = "max-bad-steps", .kind = OPTION_INT, .value = &(o).max_bad_steps, .argument = "N",    \
     .help = "give up after N non-finite steps in a row", .min = 1,                                \
     .max = FIT_STEPS_MAX},                                                                        \
    {.name = "max-unreadable", .kind = OPTION_FLOAT, .value = &(o).max_unreadable,                 \
     .argument = "X", .help = "give up if this fraction of the images, and 10, cannot be read",    \
     .max = 1}
/* clang-format on */

/* Parses at_least to count comma-separated multipliers, whole numbers from 1 to 1024. Returns their
 * number. */
int trainer_parse_multipliers(int64_t *multipliers, int at_least, int count, const char *option,
                              const char *text);

/* Call it after options_parse. With --resume, finds the checkpoint and restores the options that
 * the command line does not give. Checks the shared options and sets the loop's remaining members
 * except functions, order, parameters and run. */
void trainer_begin(struct trainer *t, struct fit_loop *loop);
/* Whether the weights are drawn at random: neither --resume nor --init-from. */
bool trainer_is_from_scratch(const struct trainer *t);

/* Opens the device and sets loop->parameters to what trainer_make_parameters will make, on a dry
 * device: nothing is allocated, and only names and shapes count. Tensors of --init-from for which
 * fixed(name) is true are not trained; NULL: all are. architecture, for a network whose weights are
 * drawn, now belongs to the trainer. */
void trainer_plan_parameters(struct trainer *t, struct architecture *architecture,
                             bool (*fixed)(const char *name));
/* Checks that the memory suffices, then sets loop->parameters: from the checkpoint, from
 * --init-from or drawn. The data and the loop's options must be set. */
void trainer_make_parameters(struct trainer *t);

/* Call it before trainer_begin in a program that opens a list of images. */
void trainer_expect_list(struct trainer *t, int operands, char **argv);
/* Opens the list of images: from the operands if there are any, else from the file `list` in the
 * folder of the run that is resumed, else from standard input. `missing` is the error if that is a
 * terminal. */
struct image_set *trainer_open_images(const struct trainer *t, const struct image_set_options *set,
                                      int operands, char **argv, bool null_separated,
                                      const char *list, const char *missing);
/* Fills in what a state records of images: order, hash, size and preprocessing. */
void trainer_describe_images(struct run_data *data, const struct image_set *images);

/* Checks that the data fill a step and, with --resume, fit the checkpoint; records them and the
 * options in the state. */
void trainer_set_data(struct trainer *t, const struct run_data *data);
void trainer_run_folder(struct trainer *t);
/* Writes the list of images into the run's folder. */
void trainer_save_images(const struct trainer *t, const struct image_set *images, const char *list);
void trainer_announce(const struct trainer *t);
/* The first signal of common/program/stop.h ends the run with a checkpoint; the second one ends the
 * program immediately. */
void trainer_run(struct trainer *t);
void trainer_end(struct trainer *t);

#endif
