#ifndef CCLD_RUN_ORIGIN_H
#define CCLD_RUN_ORIGIN_H

#include <stdbool.h>

#include "common/data/order.h"
#include "common/run/checkpoint.h"

/* How a run starts: from scratch or from a checkpoint, on which data, in which folder. Reasons for
 * failures name the files. */

/* The data of a run, as its state records them. */
struct run_data {
    struct shard_info store; /* shapes, and the networks that made the data */
    const struct order *order;
    char hash[CHECKPOINT_HASH_SIZE];
};

/* Checks the data of a resumed run. Fails if their shapes or the networks that made them differ
 * from the checkpoint's; warns if the records do, and then moves state->at to the next epoch if too
 * few are left after the old position. */
int run_check_data(struct training_state *state, const struct training_state *saved,
                   const struct run_data *data, int64_t effective_batch, struct error *e);
void run_record_data(struct training_state *state, const struct run_data *data);

/* The folders of the checkpoint that a run is resumed from and of the run that holds it; NULL if
 * the run is not resumed. */
struct run_origin {
    char *checkpoint, *run;
};

/* Opens the folder of a run that starts from o. Refuses a folder that holds another run or
 * something else, or has less than checkpoint_bytes free, and resuming in place from any but the
 * run's last checkpoint, which would leave two histories in one folder. *same: whether o's run
 * continues in its own folder. */
int run_begin(struct run **r, bool *same, const char *folder, const struct run_origin *o,
              int64_t checkpoint_bytes, struct error *e);

#endif
