/* Joining shard stores: what is refused, the result, and that kills lose nothing. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/support/disk_calls.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

/* Runs a shell command in the test's folder. Returns its output, valid until the next call. */
static const char *shell(const char *command)
{
    static char output[16384];
    char *line = xasprintf("cd '%s' && %s", test_folder(), command);
    FILE *f = popen(line, "r");
    CHECK(f);
    output[fread(output, 1, sizeof output - 1, f)] = 0;
    CHECK(pclose(f) == 0);
    free(line);
    return output;
}

static void write_store(const char *name, const struct shard_info *info, int first, int n,
                        int64_t shard_size, bool finish)
{
    struct shard_writer *w;
    struct shard_writer_options o = {.shard_size = shard_size, .map_size = 1};
    CHECK(shard_writer_open(&w, shards_folder(name), info, &o, NULL) == 0);
    CHECK(n == 0 || shards_put(w, first, n, 0, NULL) == 0);
    CHECK(!finish || shard_writer_finish(w, NULL) == 0);
    shard_writer_close(w);
}

/* a has records 0 to 6 in shards of 3, b 7 to 10, c 11 to 15 in shards of 2. */
enum { RECORDS = 16, SHARDS = 7 };

static void write_abc(const char *folder)
{
    char name[64];
    snprintf(name, sizeof name, "%s/a", folder);
    write_store(name, &shards_info, 0, 7, 3, true);
    snprintf(name, sizeof name, "%s/b", folder);
    write_store(name, &shards_info, 7, 4, 0, true);
    snprintf(name, sizeof name, "%s/c", folder);
    write_store(name, &shards_info, 11, 5, 2, true);
}

static char *in_folder(const char *name)
{
    return path_join(test_folder(), name);
}

/* Joins stores, given by names separated by spaces, in `folder`. */
static int join(const char *folder, const char *out, const char *names,
                struct shard_join_summary *summary, struct error *e)
{
    char *stores[8], text[256], *base = in_folder(folder), *target = path_join(base, out);
    int n = 0;
    snprintf(text, sizeof text, "%s", names);
    for (char *rest, *name = strtok_r(text, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        stores[n++] = path_join(base, name);
    int status = shard_stores_join(target, stores, n, summary, e);
    for (int i = 0; i < n; i++)
        free(stores[i]);
    free(target);
    free(base);
    return status;
}

/* Whether the store has records 0 to n - 1 in order, in so many shards. */
static bool holds(const char *name, int n, int shards)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, shards_folder(name), &e) != 0) {
        tap_diag("%s", e.text);
        return false;
    }
    bool good =
        shard_store_count(s) == n && shard_store_shards(s) == shards && shard_store_finished(s);
    for (int i = 0; good && i < n; i++)
        good = shards_record_is(s, i, i, 0);
    if (!good)
        tap_diag("%" PRId64 " records, %d shards, finished %d", shard_store_count(s),
                 shard_store_shards(s), shard_store_finished(s));
    shard_store_close(s);
    return good;
}

static void test_join(void)
{
    struct error e = {""};
    struct shard_join_summary j;
    write_abc("new");
    write_store("whole", &shards_info, 0, RECORDS, 0, true);
    if (!tap_ok(join("new", "out", "a b c", &j, &e) == 0, "three stores are joined: %s", e.text))
        return;
    tap_ok(j.records == RECORDS && j.shards == SHARDS && j.moved == SHARDS,
           "%" PRId64 " records in %d shards, %d of them moved", j.records, j.shards, j.moved);
    tap_ok(holds("new/out", RECORDS, SHARDS),
           "the store has all records in order, and is finished");
    shards_ok_clean("new/out", "the joined store");
    tap_ok(!*shell("find new/a new/b new/c -type f"), "the stores' folders are left empty");
    tap_ok(join("new", "out", "a b c", &j, &e) == 0 && j.moved == 0 && j.records == RECORDS,
           "joining them again does nothing: %s", e.text);

    struct shard_writer *joined = shards_open("new/out", 0, 0), *whole = shards_open("whole", 0, 0);
    struct latent_statistics a = shard_writer_statistics(joined),
                             b = shard_writer_statistics(whole);
    tap_ok(a.count == b.count && fabs(latent_statistics_scale(&a) - latent_statistics_scale(&b)) <=
                                     1e-12 * latent_statistics_scale(&b),
           "its statistics are those of a store encoded at once");
    bool done = true;
    for (int i = 0; i < RECORDS; i++) {
        char path[64];
        struct shard_path_found found;
        snprintf(path, sizeof path, "photos/%d.jpg", i);
        done &= shard_writer_lookup(joined, path, 1000 + i, 1700000000123456789, &found, &e) == 0 &&
                found.state == SHARD_PATH_DONE;
    }
    tap_ok(done, "the encoder finds all paths in it");
    tap_ok(shards_put(joined, RECORDS - 3, 6, 0, &e) == 0 && shard_writer_finish(joined, &e) == 0,
           "and can replace and add records: %s", e.text);
    shard_writer_close(joined);
    shard_writer_close(whole);
    tap_ok(holds("new/out", RECORDS + 3, SHARDS), "which are in order");
    shards_ok_clean("new/out", "after adding records");

    write_abc("place");
    tap_ok(join("place", "a", "a b c", &j, &e) == 0 && j.moved == SHARDS - 3 &&
               j.records == RECORDS && holds("place/a", RECORDS, SHARDS),
           "stores are joined into the first one: %s", e.text);
    shards_ok_clean("place/a", "the store joined in place");

    write_abc("mixed");
    shards_make_version_1("mixed/b");
    tap_ok(join("mixed", "out", "a b c", &j, &e) == 0 && holds("mixed/out", RECORDS, SHARDS) &&
               shards_hashes("mixed/out") == RECORDS - 4,
           "so are stores of both versions: %s", e.text);
    shards_ok_clean("mixed/out", "the mixed store");
}

static const char list_files[] =
    "find refuse -type d -printf '%p\\n' -o ! -name '*-lock' -printf '%p %i %s %T@\\n' | sort";

/* Joining fails, the reason contains one and two, and nothing changes. */
static void refused(const char *out, const char *names, const char *one, const char *two,
                    const char *what)
{
    struct error e = {""};
    struct shard_join_summary j;
    char *before = xstrdup(shell(list_files));
    bool failed = join("refuse", out, names, &j, &e) != 0;
    bool unchanged = strcmp(before, shell(list_files)) == 0;
    tap_ok(failed && strstr(e.text, one) && strstr(e.text, two), "refused: %s: %s", what, e.text);
    if (!tap_ok(unchanged, "and nothing changes"))
        tap_diag("%s", shell("find refuse"));
    free(before);
}

static void test_refusals(void)
{
    struct shard_info other = shards_info;
    write_abc("refuse");
    strcpy(other.autoencoder.hash, "1111111111111111");
    write_store("refuse/network", &other, 100, 2, 0, true);
    refused("out", "a b network", "refuse/network' cannot be joined with '", "refuse/a'",
            "another autoencoder");
    other = shards_info;
    other.image_width *= 2;
    write_store("refuse/shape", &other, 100, 2, 0, true);
    refused("out", "a shape", "128x128", "refuse/shape'", "another image size");
    other = shards_info;
    strcpy(other.preprocessing, "pil");
    write_store("refuse/pil", &other, 100, 2, 0, true);
    refused("a", "a pil", "'pil'", "refuse/a'", "other preprocessing");
    write_store("refuse/unfinished", &shards_info, 100, 2, 0, false);
    refused("out", "a unfinished", "refuse/unfinished'", "not finished", "an unfinished store");
    refused("unfinished", "unfinished a", "refuse/unfinished'", "not finished",
            "an unfinished store to join in place");
    write_store("refuse/twice", &shards_info, 9, 1, 0, true);
    refused("out", "a b twice", "refuse/b' and '", "'photos/9.jpg'", "a path in two stores");
    refused("b", "b twice", "refuse/b' and '", "refuse/twice' both",
            "a path in two stores in place");
    refused("out", "a b a/", "refuse/a' and '", "same store", "a store given twice");
    refused("b", "a b", "refuse/b'", "in place", "a second store as the target");
    refused("b", "a c", "", "not empty", "a target that is another store");
    refused("out", "a nowhere", "refuse/nowhere'", "No such file", "a folder that does not exist");
    refused("out", "a b/00000.mdb", "00000.mdb'", "not a folder", "a file");
    refused("no/out", "a b", "", "No such file", "a target in a folder that does not exist");
    shell("mkdir refuse/empty refuse/other && echo >refuse/other/notes.txt");
    refused("out", "a empty", "refuse/empty'", "no shards", "a folder without shards");
    refused("other", "a b", "", "not empty", "a target with other files");
    shell("mkdir refuse/short && head -c 9000 refuse/b/00000.mdb >refuse/short/00000.mdb");
    refused("out", "a short", "refuse/short'", "truncated", "a damaged shard");
    shell("mkdir refuse/gap && cp refuse/a/00001.mdb refuse/gap");
    refused("out", "gap b", "refuse/gap'", "first shard is missing",
            "a store without its first shard");

    struct shard_writer *w = shards_open("refuse/c", 0, 0);
    refused("out", "a c", "refuse/c'", "writing", "a store that a writer has open");
    refused("c", "c a", "", "writing", "a target that a writer has open");
    shard_writer_close(w);

    int ready[2], done[2];
    CHECK(pipe(ready) == 0 && pipe(done) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct shard_store *s;
        close(done[1]);
        if (shard_store_open(&s, shards_folder("refuse/c"), NULL) != 0 ||
            write(ready[1], "", 1) != 1)
            _exit(1);
        char byte;
        _exit(read(done[0], &byte, 1) == 0 ? 0 : 1);
    }
    char byte;
    CHECK(child > 0 && read(ready[0], &byte, 1) == 1);
    refused("out", "a c", "refuse/c'", "reading", "a store that a reader has open");
    close(done[1]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);

    disk.renames = 0;
    disk.rename_fails_at = 2; /* the probe of the second store */
    disk.rename_error = EXDEV;
    refused("out", "a b", "refuse/b'", "another file system", "a store on another file system");
    disk.renames = 0;
    disk.rename_fails_at = 4; /* two probes, the journal, the first shard */
    disk.rename_error = EIO;
    refused("out", "a b", "refuse/a/00000.mdb'", "Input/output", "a first rename that fails");
    disk.rename_fails_at = 0;
}

/* A rename that fails later on leaves a join that a repetition completes, and nothing else may use
 * the folder meanwhile. */
static void test_interrupted(void)
{
    struct error e = {""};
    struct shard_join_summary j;
    struct shard_writer *w;
    struct shard_store *s;
    struct shard_writer_options o = {0};
    write_abc("stop");
    write_store("stop/d", &shards_info, 50, 2, 0, true);
    disk.renames = 0;
    disk.rename_fails_at = 3 + 1 + 4; /* the first shard of b */
    disk.rename_error = EIO;
    tap_ok(join("stop", "out", "a b c", &j, &e) != 0 && strstr(e.text, "repeat"),
           "a join fails halfway: %s", e.text);
    disk.rename_fails_at = 0;
    tap_ok(shard_writer_open(&w, shards_folder("stop/out"), &shards_info, &o, &e) != 0 &&
               strstr(e.text, "ccld-shards join"),
           "no records can be added to the incomplete store: %s", e.text);
    tap_ok(shard_store_open(&s, shards_folder("stop/out"), &e) == 0 && shard_store_count(s) == 7 &&
               !shard_store_finished(s),
           "it can be read, but is unfinished");
    shard_store_close(s);
    shards_ok_problem("stop/out", "interrupted", "that the store is incomplete");
    tap_ok(join("stop", "out", "a b", &j, &e) != 0 && strstr(e.text, "stop/c'"),
           "other stores cannot be joined into it: %s", e.text);
    tap_ok(join("stop", "all", "out d", &j, &e) != 0 && strstr(e.text, "interrupted"),
           "nor can it be joined with others: %s", e.text);
    shell("mv stop/b/00000.mdb stop/saved");
    tap_ok(join("stop", "out", "a b c", &j, &e) != 0 &&
               strstr(e.text, "of 7 shards to join, 1 cannot"),
           "a missing shard is noticed: %s", e.text);
    shell("mv stop/saved stop/b/00000.mdb");
    /* Someone encodes into a store whose shards have been moved. */
    write_store("stop/a", &shards_info, 2, 1, 0, true);
    tap_ok(join("stop", "out", "a b c", &j, &e) != 0 && strstr(e.text, "'photos/2.jpg'"),
           "a path encoded again meanwhile is refused: %s", e.text);
    shell("rm stop/a/*");
    tap_ok(join("stop", "out", "a b c", &j, &e) == 0 && j.moved == SHARDS - 3 &&
               holds("stop/out", RECORDS, SHARDS),
           "the same join completes it");
    shards_ok_clean("stop/out", "the completed store");
}

/* The number of records in shards of all folders. */
static int64_t count_records(const char *folder, const char *names)
{
    char text[64], *rest;
    int64_t records = 0;
    snprintf(text, sizeof text, "%s", names);
    for (char *name = strtok_r(text, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        char path[4400];
        int first, end;
        snprintf(path, sizeof path, "%s/%s", shards_folder(folder), name);
        if (!file_exists(path))
            continue;
        CHECK(shard_folder_range(path, &first, &end, NULL) == 0);
        for (int number = first; number < end; number++) {
            struct shard s;
            CHECK(shard_open(&s, path, number, false, NULL) == 0);
            records += s.count;
            shard_close(&s);
        }
    }
    return records;
}

static int join_abc(const void *out)
{
    struct error e;
    struct shard_join_summary j;
    return join("kill", out, "a b c", &j, &e);
}

/* Kills the join before its nth call (rename only, or any that changes the disk), for every n,
 * kills its repetition, too, and completes it. */
static void test_kills(const char *out, bool only_renames)
{
    struct error e = {""};
    struct shard_join_summary j;
    char name[64], folders[64];
    snprintf(name, sizeof name, "kill/%s", out);
    snprintf(folders, sizeof folders, "a b c%s", strcmp(out, "a") == 0 ? "" : " out");
    bool kept = true, completed = true, good = true, tidy = true, killed = true;
    long n = 0;
    int64_t again = 0;
    while (killed && kept && completed && good && tidy) {
        n++;
        shell("rm -rf kill && cp -r master kill");
        killed = disk_killed(join_abc, out, only_renames ? 0 : n, only_renames ? n : 0, &good);
        kept = count_records("kill", folders) == RECORDS;
        if (killed && disk_killed(join_abc, out, only_renames ? 0 : 3 + n * 7 % 20,
                                  only_renames ? 1 + n * 7 % 5 : 0, &good)) {
            again++;
            kept &= count_records("kill", folders) == RECORDS;
        }
        completed = join("kill", out, "a b c", &j, &e) == 0 && holds(name, RECORDS, SHARDS);
        tidy = !*shell("find kill -type f ! -path 'kill/*/*.mdb' ! -name '*.mdb-lock'; "
                       "find kill -name '*.mdb' ! -path 'kill/out/*' ! -path 'kill/a/*'");
    }
    tap_ok(kept && completed && good && tidy && n > (only_renames ? 7 : 20) && again > 5,
           "killed before each of %ld %s joining into %s, %" PRId64 " times twice: no record is "
           "lost, and a repetition completes the join %s",
           n - 1, only_renames ? "renames when" : "calls that change the disk when",
           strcmp(out, "a") == 0 ? "the first store" : "a new one", again, completed ? "" : e.text);
    if (!kept || !completed || !good || !tidy)
        tap_diag("kept %d, completed %d, good %d, tidy %d at %ld", kept, completed, good, tidy, n);
    shards_ok_clean(name, "after the last kill");
}

int main(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    test_join();
    test_refusals();
    test_interrupted();
    write_abc("master");
    test_kills("out", true);
    test_kills("a", true);
    test_kills("out", false);
    test_kills("a", false);
    return tap_done();
}
