#ifndef CCLD_RUN_ORIGIN_H
#define CCLD_RUN_ORIGIN_H

#include <stdbool.h>

#include "common/data/order.h"
#include "common/run/checkpoint.h"

/* How a run begins: from scratch or from a checkpoint, on which data, in which folder. Reasons for
 * failures name the files. */

/* What a run is trained on, as its state records it. */
struct run_data {
    struct shard_info store; /* sizes, and the networks that made the data */
    const struct order *order;
    char hash[CHECKPOINT_HASH_SIZE];
};

/* Data of a resumed run may have changed, which brings a warning, but not their sizes nor the
 * networks that made them. Moves state->at to the next epoch if the old place no longer exists. */
int run_check_data(struct training_state *state, const struct training_state *saved,
                   const struct run_data *data, int64_t effective_batch, struct error *e);
void run_record_data(struct training_state *state, const struct run_data *data);

/* Where a resumed run comes from; both NULL: it is not resumed. */
struct run_origin {
    char *checkpoint, *run; /* folders: the checkpoint's and that of the run it is in */
};

/* Opens the folder of a run that starts from o. Refuses a folder that holds another run, and
 * resuming in place from a checkpoint that is not the run's last: that would leave two histories in
 * one folder. *same: o's run continues in its own folder. checkpoint_bytes must be free there. */
int run_begin(struct run **r, bool *same, const char *folder, const struct run_origin *o,
              int64_t checkpoint_bytes, struct error *e);

#endif
