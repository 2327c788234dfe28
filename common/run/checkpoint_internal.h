#ifndef CCLD_RUN_CHECKPOINT_INTERNAL_H
#define CCLD_RUN_CHECKPOINT_INTERNAL_H

#include "common/run/checkpoint.h"

#define STATE_FILE "state.json"

/* *text is malloc'ed. */
void training_state_print(char **text, const struct training_state *s);
/* The reason for a failure names the key that is missing or invalid. */
int training_state_parse(struct training_state *s, const char *text, struct error *e);

/* Writes all files of tensors into a folder, syncs them to disk and fills s->files. Fails if a
 * value is not finite, because such a checkpoint could not be loaded. */
int checkpoint_write_tensors(const char *folder, const struct parameters *p,
                             struct training_state *s, struct error *e);

#endif
