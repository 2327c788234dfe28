/* Removing records: what is left, and what is left when the program is killed meanwhile. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/stores/removal.h"
#include "formats/shards/shard_internal.h"
#include "tests/support/disk_calls.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

#define RECORDS 100
#define SHARD   12

static uint32_t number(uint32_t i, uint32_t seed)
{
    uint32_t out[4];
    philox4x32_10(out, (uint32_t[4]){i}, (uint32_t[2]){seed});
    return out[0];
}

/* Removes about one record in `odds`; none if it is 0. */
static void choose(bool *remove, uint32_t seed, uint32_t odds)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        remove[i] = odds && number(i, seed) % odds == 0;
}

static int run_removal(const char *name, const bool *remove, struct error *e)
{
    struct shard_remover *r;
    bool completed;
    if (shard_remover_open(&r, shards_folder(name), &completed, e) != 0)
        return -1;
    int status = shard_remover_run(r, remove, e);
    shard_remover_close(r);
    return status;
}

static const bool none[RECORDS];

/* Whether the store has all records but those removed, in order, with the values they had unless
 * they are damaged. */
static bool has_all_but(const char *name, const bool *removed, const bool *damaged)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, shards_folder(name), &e) != 0) {
        tap_diag("%s", e.text);
        return false;
    }
    int64_t index = 0;
    bool good = true;
    for (int k = 0; k < RECORDS && good; k++)
        if (!removed[k]) {
            good = index < shard_store_count(s) && (damaged[k] || shards_record_is(s, index, k, 0));
            index++;
        }
    good = good && index == shard_store_count(s);
    shard_store_close(s);
    return good;
}

static bool has_rest(const char *name, const bool *removed)
{
    return has_all_but(name, removed, none);
}

static struct latent_statistics statistics_of(const char *name)
{
    struct shard_store *s;
    CHECK(shard_store_open(&s, shards_folder(name), NULL) == 0);
    struct latent_statistics st = shard_store_statistics(s);
    shard_store_close(s);
    return st;
}

static void test_rest(void)
{
    static const uint32_t odds[] = {0, 50, 10, 2, 1};
    for (uint32_t i = 0; i < sizeof odds / sizeof *odds; i++) {
        char name[16];
        bool remove[RECORDS];
        struct error e = {""};
        snprintf(name, sizeof name, "rest%u", i);
        CHECK(shards_write(name, RECORDS, 7, SHARD, 0));
        choose(remove, i, odds[i]);
        for (int k = 2 * SHARD; k < 3 * SHARD; k++) /* a whole shard */
            remove[k] |= odds[i] > 0;
        int status = run_removal(name, remove, &e);
        tap_ok(status == 0 && has_rest(name, remove), "one in %u records is removed %s", odds[i],
               e.text);
        shards_ok_clean(name, "afterwards");
    }
}

/* Shards of both versions. */
static void test_versions(void)
{
    bool remove[RECORDS];
    struct error e = {""};
    int64_t left = 0;
    CHECK(shards_write("mixed", 60, 7, SHARD, 0));
    shards_make_version_1("mixed");
    struct shard_writer *w = shards_open("mixed", SHARD, 0);
    CHECK(w && shards_put(w, 60, RECORDS - 60, 0, &e) == 0 && shard_writer_finish(w, &e) == 0);
    shard_writer_close(w);
    choose(remove, 3, 3);
    for (int k = 60; k < RECORDS; k++)
        left += !remove[k];
    tap_ok(run_removal("mixed", remove, &e) == 0 && has_rest("mixed", remove) &&
               shards_hashes("mixed") == left,
           "records of shards with and without hashes are removed %s", e.text);
    shards_ok_clean("mixed", "then");
}

/* The statistics are those of a store that never had the others, and the store can be added to. */
static void test_again(void)
{
    bool remove[RECORDS] = {false};
    struct error e = {""};
    CHECK(shards_write("first", 60, 7, SHARD, 0) && shards_write("long", RECORDS, 7, SHARD, 0));
    for (int k = 60; k < RECORDS; k++)
        remove[k] = true;
    tap_ok(run_removal("long", remove, &e) == 0, "the end of a store is removed %s", e.text);
    struct latent_statistics a = statistics_of("first"), b = statistics_of("long");
    tap_ok(a.count == b.count && fabs(a.mean - b.mean) < 1e-12 &&
               fabs(a.mean_square - b.mean_square) < 1e-12 * a.mean_square,
           "with its part of the statistics");
    struct shard_writer *w = shards_open("long", SHARD, 0);
    tap_ok(w && shards_put(w, 60, RECORDS - 60, 0, &e) == 0 && shard_writer_finish(w, &e) == 0,
           "it can be encoded again");
    shard_writer_close(w);
    tap_ok(has_rest("long", none), "and the store is as before");
    shards_ok_clean("long", "then");
}

static void test_refused(void)
{
    struct shard_remover *r, *second;
    struct shard_writer *w;
    struct error e = {""};
    bool completed;
    CHECK(shards_write("open", 5, 5, SHARD, 0));
    CHECK(shard_remover_open(&r, shards_folder("open"), &completed, &e) == 0 && !completed);
    tap_ok(shard_remover_open(&second, shards_folder("open"), &completed, &e) == -1 &&
               strstr(e.text, "another program is writing"),
           "two removals at once are refused: %s", e.text);
    int64_t index;
    struct shards_sample x;
    shards_sample(&x, 3, 0);
    tap_ok(shard_remover_find(r, x.path, &index, &e) == 0 && index == 3 &&
               shard_remover_find(r, "other", &index, &e) == 0 && index == -1,
           "records are found by their paths");
    shard_remover_close(r);
    char *journal = xasprintf("%s/.remove", shards_folder("open"));
    CHECK(file_write(journal, "0\n", 2, &e) == 0);
    free(journal);
    w = shards_open("open", SHARD, 0);
    tap_ok(!w, "a store with an interrupted removal is not written to");
    shard_writer_close(w);
    tap_ok(shard_remover_open(&r, shards_folder("open"), &completed, &e) == 0 && completed,
           "another removal completes it");
    shard_remover_close(r);
}

static const char killed_store[] = "killed";
static bool chosen[RECORDS];

static int remove_chosen(const void *store)
{
    struct error e;
    return run_removal(store, chosen, &e);
}

/* In a process of its own, whose warnings nobody needs. */
static int repair(const void *store)
{
    CHECK(freopen("/dev/null", "w", stderr));
    struct removal_summary summary;
    struct error e;
    char *folder = xstrdup(shards_folder(store));
    struct shard_folders folders = {.items = &folder, .count = 1};
    return removal_of_damaged(&summary, &folders, &e);
}

/* Completes a removal that was interrupted. */
static int complete(const void *store)
{
    struct shard_remover *r;
    struct error e;
    bool completed;
    int status = shard_remover_open(&r, shards_folder(store), &completed, &e);
    if (status == 0)
        shard_remover_close(r);
    return status == 0 && completed ? 0 : -1;
}

static void open_again(const char *store)
{
    struct shard_writer *w = shards_open(store, SHARD, 0);
    shard_writer_close(w);
}

static bool is_interrupted(void)
{
    return shard_folder_removing(shards_folder(killed_store));
}

/* Whether the folder has files of programs that were killed. */
static bool is_tidy(void)
{
    char *command = xasprintf("test -z \"$(find '%s' -name '.?*')\"", shards_folder(killed_store));
    bool tidy = system(command) == 0;
    free(command);
    return tidy;
}

static void copy_store(const char *from)
{
    char *command = xasprintf("cd '%s' && rm -rf %s && cp -r %s %s", test_folder(), killed_store,
                              from, killed_store);
    CHECK(system(command) == 0);
    free(command);
}

static void no_problem(void *arg, const char *text)
{
    tap_diag("%s", text);
}

/* What is left by a removal that is killed before its nth call that changes the disk. */
struct kills {
    bool killed, good;
    int64_t unchanged, completed, again, left; /* left: files that later went */
};

/* damaged: records of the store that cannot be read. */
static void kill_one(struct kills *k, long n, int (*work)(const void *), const bool *damaged)
{
    k->killed = disk_killed(work, killed_store, n, 0, &k->good);
    if (is_interrupted()) {
        k->completed++;
        k->again += disk_killed(complete, killed_store, 1 + n % 7, 0, &k->good);
        if (is_interrupted())
            k->good &= complete(killed_store) == 0;
    } else if (has_all_but(killed_store, none, damaged)) {
        k->unchanged++;
        k->left += !is_tidy();
        open_again(killed_store);
        k->good &= is_tidy();
        bool again = disk_killed(work, killed_store, 0, 0, &k->good);
        k->good &= k->killed && !again;
    }
}

static void test_killed(const char *what, const char *store, int (*work)(const void *),
                        const bool *damaged)
{
    struct kills k = {.killed = true, .good = true};
    long n = 0;
    int64_t records;
    while (k.killed && k.good) {
        copy_store(store);
        kill_one(&k, ++n, work, damaged);
        k.good &=
            has_rest(killed_store, chosen) && is_tidy() &&
            shard_store_verify(shards_folder(killed_store), no_problem, NULL, NULL, &records) == 0;
    }
    tap_ok(k.good && k.unchanged > 20 && k.completed > 5 && k.again > 5 && k.left > 20,
           "%s that is killed before each of %ld calls that change the disk removes all or nothing",
           what, n - 1);
    tap_diag("%" PRId64 " kills changed nothing, %" PRId64 " were completed later, %" PRId64
             " of them after another kill",
             k.unchanged, k.completed, k.again);
}

/* Changes a byte in the frames of the records. */
static void damage(const char *name, const bool *damaged)
{
    for (int number = 0, first = 0; first < RECORDS; number++) {
        struct shard s;
        MDB_txn *txn;
        CHECK(shard_open(&s, shards_folder(name), number, SHARD_WRITE, NULL) == 0 &&
              shard_txn_begin(&s, true, &txn) == 0);
        for (int i = 0; i < s.count; i++) {
            uint8_t index[8];
            shard_put_be64(index, (uint64_t)i);
            MDB_val key = {.mv_size = sizeof index, .mv_data = index}, value;
            if (!damaged[first + i])
                continue;
            CHECK(mdb_get(txn, s.samples, &key, &value) == 0);
            uint8_t *changed = xmalloc(value.mv_size);
            memcpy(changed, value.mv_data, value.mv_size);
            changed[value.mv_size / 2] ^= 4;
            value.mv_data = changed;
            CHECK(mdb_put(txn, s.samples, &key, &value, 0) == 0);
            free(changed);
        }
        CHECK(mdb_txn_commit(txn) == 0);
        first += (int)s.count;
        shard_close(&s);
    }
}

static void test_kills(void)
{
    choose(chosen, 99, 5);
    CHECK(shards_write("whole", RECORDS, 50, 2 * SHARD, 0));
    test_killed("a removal", "whole", remove_chosen, none);
    CHECK(shards_write("damaged", RECORDS, 50, 2 * SHARD, 0));
    damage("damaged", chosen);
    test_killed("a repair", "damaged", repair, chosen);
}

int main(void)
{
    test_rest();
    test_versions();
    test_again();
    test_refused();
    test_kills();
    return tap_done();
}
