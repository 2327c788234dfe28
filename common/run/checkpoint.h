#ifndef CCLD_RUN_CHECKPOINT_H
#define CCLD_RUN_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/data/latent_set.h"
#include "common/train/parameters.h"

/* Checkpoints of a training run. A run is a folder:
 *
 * - RUN/step-00050000/: one checkpoint, complete when it has this name;
 * - diffusion.safetensors in it: EMA weights, to sample with (autoencoder.* or cloob.* of those
 *   networks);
 * - raw.safetensors: the weights themselves;
 * - optimizer.safetensors: AdamW's moments, m.NAME and v.NAME of each trained tensor;
 * - discriminator.safetensors and discriminator-optimizer.safetensors: where the parameters has one
 * as its companion, its weights and moments;
 * - state.json: everything else;
 * - RUN/latest: symbolic link to the last one.
 *
 * Tensors are F32 with our names (common/nets/names.h); numbers beside the weights
 * (autoencoder_scale) are tensors of no dimensions. */

#define CHECKPOINT_FILES      3
#define CHECKPOINT_FILES_MAX  5  /* with a discriminator */
#define CHECKPOINT_NAME_SIZE  32 /* "step-00050000" and a zero */
#define CHECKPOINT_HASH_SIZE  33
#define TRAINING_VERSION_SIZE 16

/* A named value of the command line, as text. */
struct training_option {
    char *name, *value;
};

/* What state.json holds. Plain numbers that are not known are NaN. */
struct training_state {
    char version[TRAINING_VERSION_SIZE]; /* of the program that wrote it */
    int64_t step;            /* steps done, skipped ones included: the next one's number */
    int64_t updates;         /* of them applied; written from and read into the parameters */
    int64_t images;          /* seen by those steps */
    struct data_position at; /* of the next step */
    uint64_t seed;
    double seconds; /* of training, all sessions together */

    int64_t bad_steps, bad_steps_in_a_row; /* skipped because something was not finite */
    double learning_rate, ema_decay;       /* of the last step */
    double loss, smoothed_loss, gradient_norm, holdout_loss;
    double autoencoder_scale;

    char precision[8];        /* as --precision says */
    double loss_scale;        /* of mixed precision; 1 without */
    int64_t loss_scale_steps; /* since it was changed */

    struct shard_info store; /* of the data: models' names and hashes, shapes */
    char dataset_hash[CHECKPOINT_HASH_SIZE];
    int64_t dataset_count, holdout_count; /* records */

    struct training_option *options; /* training_state_set_option */
    int option_count;

    /* Filled by checkpoint_save and checked by checkpoint_load_parameters. */
    struct checkpoint_file {
        char name[48];
        int64_t bytes;                   /* of all tensors */
        char hash[CHECKPOINT_HASH_SIZE]; /* XXH3-128 of all tensors' names, shapes and bytes */
    } files[CHECKPOINT_FILES_MAX];
    int file_count;
    int64_t companion_updates; /* of the discriminator */
};
/* Zeros; numbers that are not known yet NaN, loss_scale 1. */
void training_state_init(struct training_state *s);
void training_state_release(struct training_state *s);
/* Sets or replaces an option by its long name; copies. A value that reads as a number of JSON
 * becomes one in the file. */
void training_state_set_option(struct training_state *s, const char *name, const char *value);
/* NULL: not there. */
const char *training_state_option(const struct training_state *s, const char *name);

/* A run's folder, opened by the one process that writes there. */
struct run;
/* Makes the folder if need be, locks it (fails when another process has it open) and removes what
 * killed runs have left of checkpoints that were not complete. */
int run_open(struct run **r, const char *folder, struct error *e);
void run_close(struct run *r); /* NULL is fine */
const char *run_folder(const struct run *r);
/* Number of checkpoints in it. */
int run_checkpoints(const struct run *r);

/* Removes all but the `keep` last checkpoints up to step `step`; keep 0: none. Those of later
 * steps, of a run that was resumed from an earlier one, are left alone. */
void run_prune(const struct run *r, int64_t step, int64_t keep);

/* "step-00050000" */
void checkpoint_name(char name[CHECKPOINT_NAME_SIZE], int64_t step);
/* Bytes on disk of one. */
int64_t checkpoint_bytes(const struct parameters *p);
/* Fails, with both figures, when the file system of `folder` has less than that free. */
int checkpoint_check_space(const char *folder, int64_t bytes, struct error *e);

/* Writes a checkpoint of step s->step, moves `latest` to it and then prunes the run; one of the
 * same step is replaced. Free space is checked before. Whatever fails or whenever the process is
 * killed, the checkpoints that were there stay, and `latest` points to a complete one. Sets
 * s->version, s->updates and s->files. */
int checkpoint_save(struct run *r, const struct parameters *p, struct training_state *s,
                    int64_t keep, struct error *e);

/* The checkpoint that `path` means: itself, or of a run the one `latest` points to, or the one with
 * the highest step where there is no `latest` (a run that was copied without links). To write to
 * the same run, run_open it first: it repairs what a killed run left. *checkpoint and *run (the
 * folder it is in; NULL if not wanted) are malloc'ed. */
int checkpoint_find(const char *path, char **checkpoint, char **run, struct error *e);
/* s: not initialised before; training_state_release after success. */
int checkpoint_read_state(struct training_state *s, const char *checkpoint, struct error *e);
/* All weights and moments, checked against one another, the sizes and hashes in s, and for numbers
 * that are not finite. Reasons name the file. p->updates is set. */
int checkpoint_load_parameters(struct parameters **p, const struct training_state *s,
                               const char *checkpoint, struct device *d, struct error *e);

#endif
