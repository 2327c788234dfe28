#ifndef CCLD_RUN_CHECKPOINT_INTERNAL_H
#define CCLD_RUN_CHECKPOINT_INTERNAL_H

#include "common/run/checkpoint.h"

#define STATE_FILE "state.json"
#define LATEST     "latest"
#define BEST       "best"

#define CHECKPOINT_NAME_SIZE 32 /* "step-00050000" and a zero */
void checkpoint_name(char name[CHECKPOINT_NAME_SIZE], int64_t step);
/* The step of a checkpoint's folder; -1 if the name is not one of a checkpoint. */
int64_t checkpoint_step_of(const char *name);

struct step_list {
    const char *folder;
    int64_t *steps;
    int count;
};
/* The steps of a run's checkpoints, last first. The caller frees l->steps, even after a failure. */
int checkpoint_list(struct step_list *l, const char *folder, struct error *e);
/* Makes the link RUN/link_name point to a checkpoint's name. */
int run_move_link(const char *run, const char *link_name, const char *name, struct error *e);

/* *text is malloc'ed. */
void training_state_print(char **text, const struct training_state *s);
/* The reason for a failure names the key that is missing or invalid. */
int training_state_parse(struct training_state *s, const char *text, struct error *e);

/* Writes all files of tensors into a folder, syncs them to disk and fills s->files. Fails if a
 * value is not finite, because such a checkpoint could not be loaded. */
int checkpoint_write_tensors(const char *folder, const struct parameters *p,
                             struct training_state *s, struct error *e);

#endif
