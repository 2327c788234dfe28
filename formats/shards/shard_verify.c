#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "formats/shards/shard_internal.h"

/* A running sum may differ from one computed from scratch by rounding only. */
#define STATISTICS_TOLERANCE 1e-6

struct verifier {
    void (*problem)(void *arg, const char *text);
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
    int64_t problems, records, total;
    bool unread; /* a record of this shard was unreadable, so its statistics cannot be compared */
    struct path_set seen;
    char *label; /* of a record */
};

__attribute__((format(printf, 2, 3))) static void report(struct verifier *v, const char *format,
                                                         ...)
{
    char text[768];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    v->problems++;
    v->problem(v->arg, text);
}

static void check_label(struct verifier *v, const struct shard *s, int64_t index,
                        const MDB_val *value, const struct shard_record *r)
{
    enum shard_label label = shard_label_read(&v->label, value);
    if (label == SHARD_LABEL_DAMAGED)
        report(v, "%s, index %" PRId64 " ('%s'): damaged label", s->name, index, r->path);
    else if (label == SHARD_LABEL_FOUND && strcmp(v->label, r->path) != 0)
        report(v, "%s, index %" PRId64 ": the path is '%s', but the label '%s'", s->name, index,
               r->path, v->label);
}

/* Checks one record: its frame, its label, its values, and its entry in the paths. */
static void check_record(struct verifier *v, struct shard *s, MDB_txn *txn, int64_t index,
                         const MDB_val *frame, struct shard_record *r,
                         struct latent_statistics *statistics)
{
    struct error e;
    if (shard_value_read(r, frame, &s->info, &e) != 0) {
        shard_record_error(&e, s, index, r->path);
        report(v, "%s", e.text);
        v->unread = true;
        return;
    }
    check_label(v, s, index, frame, r);
    latent_statistics_add(statistics, &s->info, r->moments, 1);
    if (shard_record_check_values(r, &s->info, &e) != 0)
        report(v, "%s, index %" PRId64 " ('%s'): %s", s->name, index, r->path, e.text);
    uint8_t path[PATH_KEY_SIZE];
    path_key(path, r->path);
    if (!path_set_add(&v->seen, path))
        report(v, "%s, index %" PRId64 ": duplicate path '%s'", s->name, index, r->path);
    MDB_val key = {.mv_size = PATH_KEY_SIZE, .mv_data = path}, value;
    struct shard_path_value found;
    int code = mdb_get(txn, s->paths, &key, &value);
    if (code != 0) {
        report(v, "%s, index %" PRId64 ": path '%s' is missing from the paths: %s", s->name, index,
               r->path, mdb_strerror(code));
    } else if (!shard_path_value_parse(&found, &value)) {
        report(v, "%s, index %" PRId64 ": damaged entry in the paths", s->name, index);
    } else if (found.hashed && s->version < SHARD_VERSION_HASHES) {
        report(v,
               "%s, index %" PRId64 ": its entry in the paths has a hash, but the shard is of "
               "version %d",
               s->name, index, s->version);
    } else if (found.index != index) {
        report(v, "%s, index %" PRId64 ": the paths list '%s' at index %" PRId64, s->name, index,
               r->path, found.index);
    }
}

static void check_samples(struct verifier *v, struct shard *s, MDB_txn *txn, MDB_cursor *cursor,
                          struct latent_statistics *statistics)
{
    struct shard_record r;
    shard_record_init(&r);
    MDB_val key, frame;
    int64_t expected = 0;
    int code;
    while ((code = mdb_cursor_get(cursor, &key, &frame, MDB_NEXT)) == 0) {
        if (key.mv_size != 8) {
            report(v, "%s: key of %zu byte%s in the samples", s->name, key.mv_size,
                   plural((int64_t)key.mv_size));
            continue;
        }
        int64_t index = (int64_t)shard_get_be64(key.mv_data);
        if (index != expected) {
            report(v, "%s, index %" PRId64 ": index %" PRId64 " was expected", s->name, index,
                   expected);
        }
        expected = index + 1;
        check_record(v, s, txn, index, &frame, &r, statistics);
        v->records++;
        if (v->progress)
            v->progress(v->arg, v->records, v->total);
    }
    if (code != MDB_NOTFOUND)
        report(v, "%s: cannot read its samples: %s", s->name, mdb_strerror(code));
    shard_record_release(&r);
}

/* check_record has found every sample in the paths. If their numbers are equal, every path has a
 * sample, too. */
static void check_counts(struct verifier *v, struct shard *s, MDB_txn *txn,
                         const struct latent_statistics *statistics)
{
    MDB_stat samples, paths;
    int code = mdb_stat(txn, s->samples, &samples);
    if (code == 0)
        code = mdb_stat(txn, s->paths, &paths);
    if (code != 0) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(code));
        return;
    }
    if (samples.ms_entries != paths.ms_entries)
        report(v, "%s: %zu sample%s, but %zu path%s", s->name, samples.ms_entries,
               plural((int64_t)samples.ms_entries), paths.ms_entries,
               plural((int64_t)paths.ms_entries));
    const struct latent_statistics *stored = &s->statistics;
    double count = (double)samples.ms_entries * (double)shard_latent_count(&s->info);
    if (stored->count != count) {
        report(v, "%s: statistics cover %.0f latent elements, but the shard has %.0f", s->name,
               stored->count, count);
    } else if (!v->unread && (!(fabs(stored->mean - statistics->mean) <=
                                STATISTICS_TOLERANCE * (1 + sqrt(statistics->mean_square))) ||
                              !(fabs(stored->mean_square - statistics->mean_square) <=
                                STATISTICS_TOLERANCE * (1 + statistics->mean_square)))) {
        report(v, "%s: statistics: mean %g, mean square %g, but the records have %g and %g",
               s->name, stored->mean, stored->mean_square, statistics->mean,
               statistics->mean_square);
    }
}

static void check_shard(struct verifier *v, struct shard *s)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    int code = shard_txn_begin(s, false, &txn);
    if (code != 0) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(code));
        return;
    }
    struct latent_statistics statistics = {0};
    struct error e;
    v->unread = false;
    /* Again: a writer may have added records since opening. */
    if (shard_read_state(s, txn, &e) != 0) {
        report(v, "%s", e.text);
    } else if ((code = mdb_cursor_open(txn, s->samples, &cursor)) != 0) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(code));
    } else {
        check_samples(v, s, txn, cursor, &statistics);
        mdb_cursor_close(cursor);
        check_counts(v, s, txn, &statistics);
    }
    mdb_txn_abort(txn);
}

static void check_shards(struct verifier *v, const char *folder, int count)
{
    struct error e;
    struct shard *shards = xcalloc((size_t)count, sizeof *shards);
    bool *open = xcalloc((size_t)count, sizeof *open);
    const struct shard *first = NULL;
    for (int i = 0; i < count; i++) {
        open[i] = shard_open(&shards[i], folder, i, SHARD_CHECK, &e) == 0;
        if (!open[i]) {
            report(v, "%s", e.text);
            continue;
        }
        v->total += shards[i].count;
        if (first && shard_info_check(&shards[i].info, &first->info, &e) != 0)
            report(v, "%s differs from %s: %s", shards[i].name, first->name, e.text);
        first = first ? first : &shards[i];
    }
    for (int i = 0; i < count; i++) {
        if (open[i]) {
            check_shard(v, &shards[i]);
            shard_close(&shards[i]);
        }
    }
    free(shards);
    free(open);
}

int64_t shard_store_verify(const char *folder, void (*problem)(void *arg, const char *text),
                           void (*progress)(void *arg, int64_t done, int64_t total), void *arg,
                           int64_t *records)
{
    struct verifier v = {.problem = problem, .progress = progress, .arg = arg};
    struct error e;
    int count;
    char *foreign;
    path_set_init(&v.seen);
    if (shard_folder_list(folder, &count, &foreign, &e) != 0) {
        report(&v, "%s", e.text);
    } else {
        if (foreign)
            report(&v, "'%s' is not part of a shard store", foreign);
        if (shard_folder_joining(folder))
            report(&v, "%s", SHARD_JOIN_INTERRUPTED);
        if (count == 0)
            report(&v, "no shards in the folder");
        check_shards(&v, folder, count);
    }
    free(foreign);
    path_set_release(&v.seen);
    free(v.label);
    *records = v.records;
    return v.problems;
}
