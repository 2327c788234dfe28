#ifndef CCLD_RUN_ORIGIN_H
#define CCLD_RUN_ORIGIN_H

#include <stdbool.h>

#include "common/data/order.h"
#include "common/run/checkpoint.h"
#include "common/train/parameters.h"

/* How a run begins: anew, with the weights of a file, or where a checkpoint stands.
 * Reasons name the files. */

/* Weights of a network alone, of any file that names_resolve knows; averaged ones where there are.
 * fixed: see parameters_from_names_fixing; NULL: all are trained. */
int fit_read_weights(struct parameters **p, const char *path, enum net net,
                     bool (*fixed)(const char *name), struct device *d, struct error *e);

/* Whether the U-Net takes what the store holds. */
int fit_check_network(const struct parameters *p, const struct shard_info *store, struct error *e);

/* What a run is trained on, as its state knows it. */
struct fit_data {
    struct shard_info store; /* sizes, and the networks that the data come from */
    const struct order *order;
    char hash[CHECKPOINT_HASH_SIZE];
};

/* Data that a run goes on with may have changed, which brings a warning, but not their sizes nor
 * the networks they come from. Moves state->at to the next epoch where the old place is not there
 * any more. */
int fit_check_data(struct training_state *state, const struct training_state *saved,
                   const struct fit_data *data, int64_t effective_batch, struct error *e);
void fit_fill_state(struct training_state *state, const struct fit_data *data);

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
