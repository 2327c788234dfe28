#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

/* What a running sum may differ from one taken afresh: rounding only. */
#define STATISTICS_TOLERANCE 1e-6

struct verifier {
    void (*problem)(void *arg, const char *text);
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
    int64_t problems, records, total;
    bool unread; /* a record of this shard was not readable: its sums cannot be compared */
    struct path_set seen;
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

/* One record: its frame, values and entry among the paths. */
static void check_record(struct verifier *v, struct shard *s, MDB_txn *txn, int64_t index,
                         const MDB_val *frame, struct shard_record *r,
                         struct latent_statistics *statistics)
{
    struct error e;
    long long at = index;
    if (shard_frame_read(r, frame, &s->info, &e)) {
        report(v, "%s, index %lld: %s", s->name, at, e.text);
        v->unread = true;
        return;
    }
    latent_statistics_add(statistics, &s->info, r->moments, 1);
    if (shard_record_check_values(r, &s->info, &e))
        report(v, "%s, index %lld ('%s'): %s", s->name, at, r->path, e.text);
    uint8_t path[PATH_KEY_SIZE];
    path_key(path, r->path);
    if (!path_set_add(&v->seen, path))
        report(v, "%s, index %lld: path '%s' is twice in the store", s->name, at, r->path);
    MDB_val key = {.mv_size = PATH_KEY_SIZE, .mv_data = path}, value;
    struct shard_path_value found;
    int rc = mdb_get(txn, s->paths, &key, &value);
    if (rc) {
        report(v, "%s, index %lld: its path '%s' is not among the paths: %s", s->name, at, r->path,
               mdb_strerror(rc));
    } else if (!shard_path_value_parse(&found, &value)) {
        report(v, "%s, index %lld: damaged entry among the paths", s->name, at);
    } else if (found.index != index) {
        report(v, "%s, index %lld: the paths have '%s' at index %lld", s->name, at, r->path,
               (long long)found.index);
    }
}

static void check_samples(struct verifier *v, struct shard *s, MDB_txn *txn, MDB_cursor *cursor,
                          struct latent_statistics *statistics)
{
    struct shard_record r;
    shard_record_init(&r);
    MDB_val key, frame;
    int64_t expected = 0;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &frame, MDB_NEXT)) == 0) {
        if (key.mv_size != 8) {
            report(v, "%s: a key of %zu bytes among the samples", s->name, key.mv_size);
            continue;
        }
        int64_t index = (int64_t)shard_get_be64(key.mv_data);
        if (index != expected) {
            report(v, "%s, index %lld: index %lld was expected", s->name, (long long)index,
                   (long long)expected);
        }
        expected = index + 1;
        check_record(v, s, txn, index, &frame, &r, statistics);
        v->records++;
        if (v->progress)
            v->progress(v->arg, v->records, v->total);
    }
    if (rc != MDB_NOTFOUND)
        report(v, "%s: cannot read its samples: %s", s->name, mdb_strerror(rc));
    shard_record_release(&r);
}

/* Every sample was found among the paths: with as many of the one as of the other, every path has
 * its sample. */
static void check_counts(struct verifier *v, struct shard *s, MDB_txn *txn,
                         const struct latent_statistics *statistics)
{
    MDB_stat samples, paths;
    int rc = mdb_stat(txn, s->samples, &samples);
    rc = rc ? rc : mdb_stat(txn, s->paths, &paths);
    if (rc) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(rc));
        return;
    }
    if (samples.ms_entries != paths.ms_entries)
        report(v, "%s: %zu samples, but %zu paths", s->name, samples.ms_entries, paths.ms_entries);
    const struct latent_statistics *stored = &s->statistics;
    double count = (double)samples.ms_entries * (double)shard_latent_count(&s->info);
    if (stored->count != count) {
        report(v, "%s: statistics over %.0f latent elements, %.0f are there", s->name,
               stored->count, count);
    } else if (!v->unread && (!(fabs(stored->mean - statistics->mean) <=
                                STATISTICS_TOLERANCE * (1 + sqrt(statistics->mean_square))) ||
                              !(fabs(stored->mean_square - statistics->mean_square) <=
                                STATISTICS_TOLERANCE * (1 + statistics->mean_square)))) {
        report(v, "%s: statistics mean %g, mean square %g; its records have %g, %g", s->name,
               stored->mean, stored->mean_square, statistics->mean, statistics->mean_square);
    }
}

static void check_shard(struct verifier *v, struct shard *s)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    int rc = shard_txn_begin(s, false, &txn);
    if (rc) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(rc));
        return;
    }
    struct latent_statistics statistics = {0};
    struct error e;
    v->unread = false;
    if (shard_read_state(s, txn, &e)) { /* again: a writer may have gone on since opening */
        report(v, "%s", e.text);
    } else if ((rc = mdb_cursor_open(txn, s->samples, &cursor))) {
        report(v, "%s: cannot read: %s", s->name, mdb_strerror(rc));
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
        open[i] = shard_open(&shards[i], folder, i, false, &e) == 0;
        if (!open[i]) {
            report(v, "%s", e.text);
            continue;
        }
        v->total += shards[i].count;
        if (first && shard_info_check(&shards[i].info, &first->info, &e))
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
    if (shard_folder_list(folder, &count, &foreign, &e)) {
        report(&v, "%s", e.text);
    } else {
        if (foreign)
            report(&v, "'%s' is not part of a shard store", foreign);
        if (count == 0)
            report(&v, "the folder holds no shards");
        check_shards(&v, folder, count);
    }
    free(foreign);
    path_set_release(&v.seen);
    *records = v.records;
    return v.problems;
}
