#include "common/run/origin.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/standard_streams.h"
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

/* What a run has in its folder before its first checkpoint, and keeps. */
static bool belongs_to_run(const char *name)
{
    static const char *const beginnings[] = {"step-", "metrics.jsonl", "events.out.tfevents.",
                                             "images.list", "pairs.list"};
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++)
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return false;
}

/* Refuses a folder of other things, such as images or shards. Hidden files and our own log do not
 * count. */
static int check_new(const char *folder, struct error *e)
{
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot read the folder");
    char *foreign = NULL;
    bool is_run = false;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(d)); errno = 0) {
        is_run = is_run || belongs_to_run(entry->d_name);
        if (entry->d_name[0] != '.' && !foreign && !standard_streams_fill(dirfd(d), entry->d_name))
            foreign = xstrdup(entry->d_name);
    }
    int status = errno ? error_errno(e, "cannot read the folder") : 0;
    closedir(d);
    if (status == 0 && foreign && !is_run)
        status = error_set(e, "the folder holds '%s' but no run; a new run needs an empty folder",
                           foreign);
    free(foreign);
    return status;
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
        return check_new(folder, e);
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
