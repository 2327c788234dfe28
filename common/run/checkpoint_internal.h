#ifndef CCLD_RUN_CHECKPOINT_INTERNAL_H
#define CCLD_RUN_CHECKPOINT_INTERNAL_H

#include "common/run/checkpoint.h"

#define STATE_FILE "state.json"

/* *text is malloc'ed. */
void training_state_print(char **text, const struct training_state *s);
/* Fails with the name of what is missing or of another kind. */
int training_state_parse(struct training_state *s, const char *text, struct error *e);

/* The files of tensors, in the order of training_state.files; the last two are of the parameters's
 * companion, where it has one. */
enum { FILE_RAW, FILE_EMA, FILE_OPTIMIZER, FILE_COMPANION, FILE_COMPANION_OPTIMIZER };
const char *checkpoint_file_name(enum net net, int file);
/* Writes all of them into a folder and fills s->files; every file is on the disk afterwards. Fails
 * where a number is not finite: what could not be loaded is not saved. */
int checkpoint_write_tensors(const char *folder, const struct parameters *p,
                             struct training_state *s, struct error *e);

#endif
