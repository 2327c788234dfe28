/* Removing records: what is left, and what is left when the program is killed meanwhile. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "formats/shards/shard_store.h"
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

/* Whether the store has all records but those removed, in order. */
static bool has_rest(const char *name, const bool *remove)
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
        if (!remove[k])
            good = index < shard_store_count(s) && shards_record_is(s, index++, k, 0);
    good = good && index == shard_store_count(s);
    shard_store_close(s);
    return good;
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
    bool none[RECORDS] = {false};
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

/* Runs the removal in a process that is killed after some microseconds. Returns whether it was. */
static bool kill_removal(const char *name, const bool *remove, long microseconds)
{
    struct error e;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        _exit(run_removal(name, remove, &e) == 0 ? 0 : 1);
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
    kill(child, SIGKILL);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        tap_diag("the removal failed");
    return WIFSIGNALED(status);
}

static void no_problem(void *arg, const char *text)
{
    tap_diag("%s: %s", (const char *)arg, text);
}

static void test_killed(void)
{
    int kills = 0, unchanged = 0, between = 0, wrong = 0;
    bool none[RECORDS] = {false}, remove[RECORDS];

    choose(remove, 99, 5);

    for (uint32_t i = 0; i < 30 && wrong == 0; i++) {
        char name[16];
        snprintf(name, sizeof name, "kill%u", i);
        CHECK(shards_write(name, RECORDS, 50, SHARD, 0));
        kills += kill_removal(name, remove, 1 + number(i, 7) % 60000);
        char *journal = xasprintf("%s/.remove", shards_folder(name));
        bool interrupted = file_exists(journal), completed;
        free(journal);
        struct shard_remover *r;
        struct error e = {""};
        if (shard_remover_open(&r, shards_folder(name), &completed, &e) != 0 ||
            completed != interrupted)
            wrong++;
        else
            shard_remover_close(r);
        bool whole = has_rest(name, none);
        unchanged += whole;
        between += interrupted;
        wrong += !(whole && !interrupted) && !has_rest(name, remove);
        int64_t records;
        wrong += shard_store_verify(shards_folder(name), no_problem, NULL, name, &records) != 0;
    }
    tap_diag("%d of 30 were killed: %d changed nothing, %d were completed later", kills, unchanged,
             between);
    tap_ok(wrong == 0 && kills > 5, "a removal that is killed removes all or nothing");
}

int main(void)
{
    test_rest();
    test_again();
    test_refused();
    test_killed();
    return tap_done();
}
