#ifndef CCLD_COMMON_FIT_START_H
#define CCLD_COMMON_FIT_START_H

#include <stdbool.h>

#include "common/train/bank.h"
#include "common/train/checkpoint.h"
#include "common/train/dataset.h"

/* How a run of ccld-fit begins: anew, with the weights of a file, or where a checkpoint stands.
 * Reasons name the files. */

/* Weights of a U-Net alone, of any file that names_resolve knows; averaged ones where there are. */
int fit_read_weights(struct bank **b, const char *path, struct device *d, struct error *e);

/* Whether the network takes what the store holds. */
int fit_check_network(const struct bank *b, const struct shard_info *store, struct error *e);

/* Data that a run goes on with may have changed, which brings a warning, but not the networks they
 * come from. Moves state->at to the next epoch where the old place is not there any more. */
int fit_check_data(struct training_state *state, const struct training_state *saved,
                   const struct dataset *d, int64_t effective_batch, struct error *e);

/* Where a run that goes on comes from; both NULL: it begins anew. */
struct fit_origin {
    char *checkpoint, *run; /* the folder, and the run's folder it is in */
};

/* Opens the folder for a run that starts there. Refuses one that holds another run, and to go on
 * from a checkpoint that is not its run's last, which would leave two stories in one folder. *same:
 * the origin's run goes on. checkpoint_bytes must be free there. */
int fit_open_run(struct run **r, bool *same, const char *folder, const struct fit_origin *o,
                 int64_t checkpoint_bytes, struct error *e);

#endif
