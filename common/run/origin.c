#include "common/run/origin.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"

int run_check_data(struct training_state *state, const struct training_state *saved,
                   const struct run_data *data, int64_t effective_batch, struct error *e)
{
    const struct order *o = data->order;
    if (shard_info_check(&saved->store, &data->store, e) != 0)
        return -1;
    if (strcmp(data->hash, saved->dataset_hash) == 0 && saved->holdout_count == o->holdout)
        return 0;
    warn("the data have changed since the checkpoint: %" PRId64 " image%s, %" PRId64
         " of them held out, instead of %" PRId64 " and %" PRId64,
         o->records, plural(o->records), o->holdout, saved->dataset_count, saved->holdout_count);
    if (state->at.place + effective_batch > order_training_count(o))
        state->at = (struct data_position){.epoch = state->at.epoch + 1};
    return 0;
}

void run_record_data(struct training_state *state, const struct run_data *data)
{
    state->store = data->store;
    strcpy(state->dataset_hash, data->hash);
    state->dataset_count = data->order->records;
    state->holdout_count = data->order->holdout;
}

static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

static int check_run(const struct run *r, bool same, const struct run_origin *o, struct error *e)
{
    const char *folder = run_folder(r);
    if (run_checkpoints(r) > 0 && !o->checkpoint)
        return error_set(e,
                         "it already holds a run: resume it with --resume, or name another folder");
    if (run_checkpoints(r) > 0 && !same)
        return error_set(e, "it already holds a run: name another folder with -o");
    if (!same)
        return 0;
    char *last;
    if (checkpoint_find(folder, &last, NULL, e) != 0)
        return -1;
    int status = 0;
    if (!same_folder(last, o->checkpoint))
        status = error_set(e, "its last checkpoint is '%s', not '%s': name a new folder with -o",
                           last, o->checkpoint);
    free(last);
    return status;
}

int run_begin(struct run **r, bool *same, const char *folder, const struct run_origin *o,
              int64_t checkpoint_bytes, struct error *e)
{
    if (run_open(r, folder, e) != 0)
        return -1;
    *same = o->run && same_folder(folder, o->run);
    if (check_run(*r, *same, o, e) == 0 && checkpoint_check_space(folder, checkpoint_bytes, e) == 0)
        return 0;
    run_close(*r);
    return -1;
}
