/* A writer that is killed leaves whole batches, whatever it was doing. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/disk_calls.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

enum { BEFORE = 6, RECORDS = 15, BATCH = 3, SHARD = 4 };

static const char name[] = "killed";

/* Replaces records 2 to 4, of shards of version 1, and adds some, in new shards too. */
static int write_records(const void *store)
{
    struct error e;
    struct shard_writer *w = shards_open(store, SHARD, 0);
    int status = w ? shards_put(w, 2, BATCH, 1, &e) : -1;
    for (int i = BEFORE; status == 0 && i < RECORDS; i += BATCH)
        status = shards_put(w, i, BATCH, 0, &e);
    if (status == 0)
        status = shard_writer_finish(w, &e);
    shard_writer_close(w);
    return status;
}

static bool is_replaced(int k)
{
    return k >= 2 && k < 2 + BATCH;
}

/* Whether the store has whole records, the first of all, each old or new. *count: how many. */
static bool is_sound(int64_t *count, bool *finished)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, shards_folder(name), &e) != 0) {
        tap_diag("%s", e.text);
        return false;
    }
    bool good = true;
    *count = shard_store_count(s);
    *finished = shard_store_finished(s);
    for (int k = 0; k < *count && good; k++) {
        struct shards_sample x;
        struct shard_record r;
        shard_record_init(&r);
        shards_sample(&x, k, 1);
        good = shard_store_read(s, k, &r, &e) == 0;
        bool is_new = good && memcmp(r.embed, x.embed, sizeof x.embed) == 0;
        shard_record_release(&r);
        good = good && (!is_new || is_replaced(k)) && shards_record_is(s, k, k, is_new);
    }
    shard_store_close(s);
    return good;
}

static void no_problem(void *arg, const char *text)
{
    tap_diag("%s", text);
}

static void copy_store(void)
{
    char *command = xasprintf("cd '%s' && rm -rf %s && cp -r before %s", test_folder(), name, name);
    CHECK(system(command) == 0);
    free(command);
}

int main(void)
{
    bool killed = true, good = true, finished = true;
    int64_t least = RECORDS, most = 0, count, records;
    long n = 0;
    CHECK(shards_write("before", BEFORE, BATCH, SHARD, 0));
    shards_make_version_1("before");
    while (killed && good) {
        copy_store();
        killed = disk_killed(write_records, name, ++n, 0, &good);
        good &= is_sound(&count, &finished) && count >= BEFORE && (finished || killed) &&
                shard_store_verify(shards_folder(name), no_problem, NULL, NULL, &records) == 0;
        least = count < least ? count : least;
        most = count > most ? count : most;
        bool again = disk_killed(write_records, name, 0, 0, &good);
        good &= !again && is_sound(&count, &finished) && count == RECORDS && finished;
    }
    tap_ok(good && n > 20 && least == BEFORE && most == RECORDS,
           "a writer that is killed before each of %ld calls that change the disk leaves %" PRId64
           " to %" PRId64 " whole records, and another one completes the store",
           n - 1, least, most);
    return tap_done();
}
