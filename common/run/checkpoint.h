#ifndef CCLD_RUN_CHECKPOINT_H
#define CCLD_RUN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/data/latent_set.h"
#include "common/train/parameters.h"

/* Checkpoints of a training run. A run is a folder:
 *
 * - RUN/step-00050000/: a checkpoint; one with this name is complete. It holds
 *   - diffusion.safetensors: the EMA weights, for sampling (autoencoder.safetensors or
 *     cloob.safetensors for those networks),
 *   - raw.safetensors: the weights without averaging,
 *   - optimizer.safetensors: AdamW's moments, m.NAME and v.NAME for each trained tensor,
 *   - discriminator.safetensors, discriminator-optimizer.safetensors: weights and moments of the
 *     companion, if the parameters have one,
 *   - state.json: everything else, and under "hash" the XXH3-128 of the document without it,
 * printed without white space. Removing the hash allows deliberate changes;
 * - RUN/latest: a symbolic link to the last checkpoint;
 * - RUN/best: a symbolic link to the best one that has been scored (common/run/best.h).
 *
 * Tensors are F32 and have our names (common/nets/names.h); scalars stored beside the weights
 * (autoencoder_scale) are tensors without dimensions. */

#define CHECKPOINT_FILES      3
#define CHECKPOINT_FILES_MAX  5 /* with a discriminator */
#define CHECKPOINT_HASH_SIZE  33
#define TRAINING_VERSION_SIZE 16

/* A command-line option and its value as text. */
struct training_option {
    char *name, *value;
};

/* Options in the order in which they were first set. */
struct training_options {
    struct training_option *items;
    int count;
    int *slots; /* a hash table of places in items, plus 1; 0: free */
    size_t slot_count;
};

/* The contents of state.json. Floating-point numbers that are not known are NaN. */
struct training_state {
    char version[TRAINING_VERSION_SIZE]; /* of the program that wrote it */
    int64_t step;            /* steps done, skipped ones included: the number of the next one */
    int64_t updates;         /* steps applied; saved from and loaded into the parameters */
    int64_t images;          /* images seen in all steps */
    struct data_position at; /* of the next step */
    uint64_t seed;
    double seconds; /* of training, over all sessions */

    int64_t bad_steps, bad_steps_in_a_row; /* skipped because something was not finite */
    double learning_rate, ema_decay;       /* of the last step */
    double loss, smoothed_loss, gradient_norm, holdout_loss;
    double autoencoder_scale;

    char precision[8];        /* a value of --precision */
    double loss_scale;        /* of mixed precision; 1 otherwise */
    int64_t loss_scale_steps; /* since it last changed */

    struct shard_info store; /* the data's shapes; names and hashes of the models that made it */
    char dataset_hash[CHECKPOINT_HASH_SIZE];
    int64_t dataset_count, holdout_count; /* records */

    struct training_options options; /* see training_state_set_option */

    /* Filled by checkpoint_save and checked by checkpoint_load_parameters. */
    struct checkpoint_file {
        char name[48];
        int64_t bytes;                   /* of all tensors */
        char hash[CHECKPOINT_HASH_SIZE]; /* XXH3-128 of all tensors' names, shapes and bytes */
    } files[CHECKPOINT_FILES_MAX];
    int file_count;
    int64_t companion_updates; /* of the discriminator */
};
/* All zero, except that numbers that are not known yet are NaN and loss_scale is 1. */
void training_state_init(struct training_state *s);
void training_state_release(struct training_state *s);
/* Sets or replaces the value of the option with this long name; copies both. A value that is a JSON
 * number becomes one in the file. */
void training_state_set_option(struct training_state *s, const char *name, const char *value);
/* NULL if it is not set. */
const char *training_state_option(const struct training_state *s, const char *name);

/* The network that a checkpoint with this state holds, by the name of its file of EMA weights;
 * false if that is none of ours. */
bool training_state_net(enum net *net, const struct training_state *s);

/* A run's folder, opened by the one process that may write there. */
struct run;
/* Creates the folder if needed, locks it (fails if another process has it open) and cleans up what
 * killed processes left of incomplete checkpoints. */
int run_open(struct run **out, const char *folder, struct error *e);
void run_close(struct run *r); /* NULL is fine */
const char *run_folder(const struct run *r);
/* The number of checkpoints in the folder. */
int run_checkpoints(const struct run *r);

/* Removes all but the last `keep` of the checkpoints up to step `step`, and the best one; keep 0
 * removes none. Later checkpoints, left when a run was resumed from an earlier one, stay. */
void run_prune(const struct run *r, int64_t step, int64_t keep);

/* An upper bound of a checkpoint's size on disk. */
int64_t checkpoint_bytes(const struct parameters *p);
/* Fails if the file system of `folder` has fewer bytes free; the reason states both figures. */
int checkpoint_check_space(const char *folder, int64_t bytes, struct error *e);

/* The first rank calls it; if arrays are sharded, all others are in parameters_serve
 * meanwhile. Writes a checkpoint of step s->step, replacing one of the same step, makes `latest`
 * point to it and then prunes the run. Checks the free space first. Whatever fails and whenever the
 * process is killed, earlier checkpoints survive and `latest` points to a complete one. Sets
 * s->version, s->updates and s->files. */
int checkpoint_save(struct run *r, const struct parameters *p, struct training_state *s,
                    int64_t keep, struct error *e);

/* The checkpoint at `path`, which names a checkpoint or a run. For a run, that is the one `latest`
 * points to or, if `latest` is missing (the run was copied without links), the one with the highest
 * step. To write to the same run, call run_open first: it repairs what a killed process left.
 * *checkpoint and *run (the folder that holds it; run may be NULL) are malloc'ed. */
int checkpoint_find(const char *path, char **checkpoint, char **run, struct error *e);
/* Initializes s; call training_state_release after success. Checks the range of every number and,
 * if the file has one, the hash; checkpoints of older programs have none. Reasons name file and
 * field.
 */
int checkpoint_read_state(struct training_state *s, const char *checkpoint, struct error *e);
/* Loads all weights and moments and sets their updates. prepare: called with the parameters and
 * their companion before anything is written to them (parameters_place); may be NULL. Checks that
 * the files fit together, match the sizes and hashes in s and hold only finite values. Reasons name
 * the file. */
typedef void parameters_prepare(void *context, struct parameters *p);
int checkpoint_load_parameters(struct parameters **out, const struct training_state *s,
                               const char *checkpoint, struct device *d,
                               parameters_prepare *prepare, void *context, struct error *e);
/* The same parameters on a dry device, to plan with: reads only numbers beside the weights. */
int checkpoint_plan_parameters(struct parameters **out, const struct training_state *s,
                               const char *checkpoint, struct device *d, struct error *e);

#endif
