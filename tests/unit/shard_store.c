#include "formats/shards/shard_store.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "formats/shards/path_set.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

static void test_round_trip(void)
{
    struct error e = {""};
    struct shard_store *s;
    tap_ok(shards_write("round", 10, 4, 0, 0), "ten records are written");
    shards_ok_clean("round", "ten records");
    if (!tap_ok(shard_store_open(&s, shards_folder("round"), &e) == 0, "the store opens: %s",
                e.text))
        return;
    bool same = shard_store_count(s) == 10;
    for (int i = 0; same && i < 10; i++)
        same = shards_record_is(s, i, i, 0);
    tap_ok(same, "all records are read back unchanged and in order");
    tap_ok(shard_store_finished(s), "the store is finished");
    tap_ok(shard_info_check(shard_store_info(s), &shards_info, &e) == 0 &&
               !strcmp(shard_store_info(s)->autoencoder.name, shards_info.autoencoder.name),
           "the properties its records share are read back");

    /* The definition, summed in another order. */
    double sum = 0, square = 0;
    for (int k = 9; k >= 0; k--) {
        struct shards_sample x;
        shards_sample(&x, k, 0);
        for (int i = 0; i < SHARDS_LATENT; i++) {
            double mean = f16_to_f32(f32_to_f16(x.moments[i]));
            double logvar = f16_to_f32(f32_to_f16(x.moments[SHARDS_LATENT + i]));
            sum += mean;
            square += mean * mean + exp(fmin(fmax(logvar, -30), 20));
        }
    }
    double n = 10.0 * SHARDS_LATENT, scale = sqrt(square / n - sum / n * sum / n);
    struct latent_statistics st = shard_store_statistics(s);
    tap_ok(st.count == n && fabs(latent_statistics_scale(&st) - scale) <= 1e-9 * scale,
           "the scale factor matches the posterior samples");
    shard_store_close(s);
}

static void test_paths(void)
{
    const char *paths[] = {"a\"quote\\.jpg",  "line\nbreak.jpg", "caf\xc3\xa9.jpg",
                           "latin1 \xe9.jpg", "\xff\xfe\x80",    "\x01 tab\t.png"};
    int n = sizeof paths / sizeof *paths;
    struct shards_sample x;
    struct error e = {""};
    shards_sample(&x, 0, 0);
    struct shard_writer *w = shards_open("paths", 0, 0);
    int status = 0;
    for (int i = 0; status == 0 && i < n; i++) {
        struct shard_item item = shards_item(&x, 0, 0);
        item.path = paths[i];
        status = shard_writer_put(w, &item, 1, &e);
    }
    tap_ok(status == 0, "paths with unusual characters are stored: %s", e.text);
    shard_writer_close(w);
    struct shard_store *s;
    struct shard_record r;
    shard_record_init(&r);
    bool same = shard_store_open(&s, shards_folder("paths"), &e) == 0;
    for (int i = 0; same && i < n; i++)
        same = shard_store_read(s, i, &r, &e) == 0 && !strcmp(r.path, paths[i]);
    tap_ok(same, "and are read back byte for byte");
    shard_record_release(&r);
    shard_store_close(s);
    shards_ok_clean("paths", "unusual paths");
}

/* Every path falls to exactly one part, and the parts are about equal. */
static void test_parts(void)
{
    const int parts[] = {2, 3, 8};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int n = parts[i], sizes[8] = {0}, total = 0;
        bool good = true;
        for (int k = 0; k < 1000; k++) {
            char path[64];
            uint8_t key[PATH_KEY_SIZE];
            snprintf(path, sizeof path, "photos/%d.jpg", k);
            path_key(key, path);
            int part = path_part(key, n);
            good &= part >= 0 && part < n;
            if (good)
                sizes[part]++;
        }
        for (int part = 0; part < n; part++) {
            total += sizes[part];
            good &= fabs(sizes[part] - 1000.0 / n) <= 0.2 * 1000 / n;
        }
        tap_ok(good && total == 1000, "1000 paths in %d parts, %d in the first", n, sizes[0]);
    }
    /* xxhash.xxh3_128_intdigest(path) % 2**64 % 1000 in Python */
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, "photos/0.jpg");
    tap_ok(path_part(key, 1000) == 221, "a path falls to the documented part");
}

static void test_growth_and_rollover(void)
{
    struct stat st;
    tap_ok(shards_write("grow", 300, 50, 0, 1),
           "300 records are written to a map of the smallest size");
    char file[4300];
    snprintf(file, sizeof file, "%s/00000.mdb", shards_folder("grow"));
    tap_ok(stat(file, &st) == 0 && st.st_size > 1 << 20, "the map has grown");
    shards_ok_clean("grow", "after growth");

    struct shard_store *s;
    struct error e;
    tap_ok(shards_write("roll", 20, 6, 7, 1), "20 records are written to shards of 7");
    bool good = shard_store_open(&s, shards_folder("roll"), &e) == 0 &&
                shard_store_shards(s) == 3 && shard_store_shard(s, 0).count == 7 &&
                shard_store_shard(s, 1).count == 7 && shard_store_shard(s, 2).count == 6 &&
                shard_store_shard(s, 0).finished;
    for (int i = 0; good && i < 20; i++)
        good = shards_record_is(s, i, i, 0);
    tap_ok(good, "shards hold 7, 7 and 6 records in order; full shards are finished");
    int64_t within;
    tap_ok(good && shard_store_locate(s, 13, &within) == 1 && within == 6 &&
               shard_store_locate(s, 14, &within) == 2 && within == 0,
           "an index in the store maps to a shard and an index within it");
    shard_store_close(s);
    shards_ok_clean("roll", "three shards");
}

static enum shard_path_state state_of(struct shard_writer *w, int k, int64_t size, int64_t mtime)
{
    char path[64];
    struct error e;
    struct shard_path_found found = {.state = (enum shard_path_state) - 1};
    snprintf(path, sizeof path, "photos/%d.jpg", k);
    shard_writer_lookup(w, path, size, mtime, &found, &e);
    return found.state;
}

static void test_rerun(void)
{
    struct error e = {""};
    int64_t mtime = 1700000000123456789;
    shards_write("rerun", 10, 4, 4, 0);
    struct shard_writer *w = shards_open("rerun", 4, 0);
    tap_ok(state_of(w, 9, 1009, mtime) == SHARD_PATH_DONE &&
               state_of(w, 0, 1000, mtime) == SHARD_PATH_DONE,
           "a path with the same size and mtime is done");
    tap_ok(state_of(w, 3, 1004, mtime) == SHARD_PATH_CHANGED &&
               state_of(w, 3, 1003, mtime + 1) == SHARD_PATH_CHANGED,
           "another size or mtime means the file has changed");
    tap_ok(state_of(w, 10, 1010, mtime) == SHARD_PATH_NEW, "another path is new");

    tap_ok(shards_put(w, 2, 3, 1, &e) == 0, "records of two full shards are replaced: %s", e.text);
    tap_ok(shard_writer_count(w) == 10, "the number of records stays the same");
    tap_ok(state_of(w, 3, 1003, mtime + 1) == SHARD_PATH_DONE, "the new version is recorded");
    tap_ok(shards_put(w, 9, 3, 2, &e) == 0, "one batch replaces the last record and adds two: %s",
           e.text);
    struct latent_statistics kept = shard_writer_statistics(w);
    shard_writer_close(w);
    shards_ok_clean("rerun", "after replacing");

    struct shard_store *s;
    bool good = shard_store_open(&s, shards_folder("rerun"), &e) == 0 && shard_store_count(s) == 12;
    for (int i = 0; good && i < 12; i++)
        good = shards_record_is(s, i, i, i >= 9 ? 2 : i >= 2 && i <= 4 ? 1 : 0);
    tap_ok(good, "each record is in its place, in its latest version");
    tap_ok(!shard_store_finished(s),
           "a store to which records were added is unfinished until finish is called");
    shard_store_close(s);

    struct shard_writer *fresh = shards_open("scratch", 0, 0);
    shards_put(fresh, 0, 2, 0, &e);
    shards_put(fresh, 2, 3, 1, &e);
    shards_put(fresh, 5, 4, 0, &e);
    shards_put(fresh, 9, 3, 2, &e);
    struct latent_statistics st = shard_writer_statistics(fresh);
    tap_ok(st.count == kept.count && fabs(st.mean - kept.mean) <= 1e-12 * (1 + fabs(st.mean)) &&
               fabs(st.mean_square - kept.mean_square) <= 1e-12 * st.mean_square,
           "statistics are as if the replaced records had never existed");
    shard_writer_close(fresh);
}

static int version_of(const char *name, int shard)
{
    struct shard_store *s;
    CHECK(shard_store_open(&s, shards_folder(name), NULL) == 0);
    int version = shard_store_shard(s, shard).version;
    shard_store_close(s);
    return version;
}

static void test_versions(void)
{
    struct error e = {""};
    CHECK(shards_write("hashed", 10, 4, 4, 0));
    tap_ok(shards_hashes("hashed") == 10 && version_of("hashed", 0) == SHARD_VERSION,
           "each image's hash is in the paths");
    shards_make_version_1("hashed");
    shards_ok_clean("hashed", "a store of version 1");
    tap_ok(shards_hashes("hashed") == 0 && version_of("hashed", 0) == 1, "which has no hashes");
    struct shard_writer *w = shards_open("hashed", 4, 0);
    struct shard_path_found found;
    tap_ok(w && state_of(w, 9, 1009, 1700000000123456789) == SHARD_PATH_DONE &&
               shard_writer_lookup(w, "photos/9.jpg", 1, 1, &found, &e) == 0 && !found.hashed,
           "its images are not encoded again");
    tap_ok(w && shard_writer_finish(w, &e) == 0, "finishing it changes nothing: %s", e.text);
    shard_writer_close(w);
    tap_ok(version_of("hashed", 2) == 1, "not its version either");
    w = shards_open("hashed", 4, 0);
    tap_ok(w && shards_put(w, 10, 5, 0, &e) == 0 && shards_put(w, 3, 1, 0, &e) == 0,
           "records are added and replaced: %s", e.text);
    tap_ok(shard_writer_lookup(w, "photos/3.jpg", 1, 1, &found, &e) == 0 && found.hashed,
           "they have hashes");
    shard_writer_close(w);
    tap_ok(shards_hashes("hashed") == 6 && version_of("hashed", 0) == 2 &&
               version_of("hashed", 1) == 1 && version_of("hashed", 2) == 2,
           "and their shards are of version 2");
    shards_ok_clean("hashed", "the mixed store");
}

static void refused(const struct shard_info *other, const char *one, const char *two,
                    const char *what)
{
    struct shard_writer *w = NULL;
    struct shard_writer_options o = {0};
    struct error e = {""};
    int status = shard_writer_open(&w, shards_folder("round"), other, &o, &e);
    if (!tap_ok(status != 0 && strstr(e.text, one) && strstr(e.text, two), "refuses to mix two %s",
                what))
        tap_diag("%s", e.text);
    if (status == 0)
        shard_writer_close(w);
}

static void test_mixing(void)
{
    struct shard_info other = shards_info;
    strcpy(other.autoencoder.hash, "1111111111111111");
    strcpy(other.autoencoder.name, "other.ckpt");
    refused(&other, "'autoencoder.ckpt'", "'other.ckpt'", "autoencoders");
    other = shards_info;
    strcpy(other.cloob.hash, "1111111111111111");
    refused(&other, "fedcba9876543210", "1111111111111111", "CLOOBs");
    other = shards_info;
    other.image_width *= 2;
    refused(&other, "128x128", "128x256", "image sizes");
    other = shards_info;
    strcpy(other.preprocessing, "pil");
    refused(&other, "'display'", "'pil'", "kinds of preprocessing");
    other = shards_info;
    other.embed_dtype = DTYPE_F16;
    refused(&other, "F32", "F16", "embedding types");
    other = shards_info;
    strcpy(other.autoencoder.name, "renamed.ckpt");
    struct error e = {""};
    tap_ok(shard_info_check(&shards_info, &other, &e) == 0, "the file name does not matter: %s",
           e.text);
}

static void test_second_writer(void)
{
    struct error e = {""};
    struct shard_writer_options o = {0};
    struct shard_writer *w = shards_open("round", 0, 0), *second;
    tap_ok(w && shard_writer_open(&second, shards_folder("round"), &shards_info, &o, &e) != 0 &&
               strstr(e.text, "another program is writing"),
           "a second writer is refused: %s", e.text);
    shard_writer_close(w);
    w = shards_open("round", 0, 0);
    tap_ok(w != NULL, "and accepted once the first has closed the store");
    shard_writer_close(w);
}

/* LMDB forbids it, and some versions abort when the first one closes. */
static void test_opened_twice(void)
{
    struct error e = {""}, we = {""};
    struct shard_writer_options o = {0};
    struct shard_writer *w = NULL;
    struct shard_store *s = NULL, *second = NULL;
    CHECK(shard_store_open(&s, shards_folder("round"), &e) == 0);
    tap_ok(shard_store_open(&second, shards_folder("round"), &e) != 0 &&
               strstr(e.text, "00000.mdb: this process has it open already"),
           "a second reader in one process is refused: %s", e.text);
    tap_ok(shard_writer_open(&w, shards_folder("round"), &shards_info, &o, &we) != 0 &&
               strstr(we.text, "open already"),
           "so is a writer: %s", we.text);
    pid_t child = fork();
    if (child == 0)
        _exit(shards_read_all("round", &e) == 0 ? 0 : 1);
    int status;
    tap_ok(waitpid(child, &status, 0) == child && status == 0, "a forked process may open it");
    bool good = shards_record_is(s, 0, 0, 0);
    shard_store_close(s);
    tap_ok(good && shards_read_all("round", &e) == 0, "and this one again once it is closed");
}

static void test_refused_items(void)
{
    struct error e = {""};
    struct shards_sample x;
    struct shard_writer *w = shards_open("items", 0, 0);
    const struct {
        int moment, element;
        float value;
        const char *reason;
    } cases[] = {
        {1, 3, NAN, "non-finite latents"},  {1, SHARDS_LATENT + 5, INFINITY, "non-finite latents"},
        {1, 7, 70000, "too large for F16"}, {0, 2, NAN, "non-finite embedding"},
        {0, 2, 3, "embedding norm"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        shards_sample(&x, 0, 0);
        (cases[i].moment ? x.moments : x.embed)[cases[i].element] = cases[i].value;
        struct shard_item item = shards_item(&x, 0, 0);
        tap_ok(shard_writer_put(w, &item, 1, &e) != 0 && strstr(e.text, cases[i].reason) &&
                   strstr(e.text, x.path),
               "not stored: %s", e.text);
    }
    shards_sample(&x, 0, 0);
    struct shard_item twice[] = {shards_item(&x, 0, 0), shards_item(&x, 0, 0)};
    tap_ok(shard_writer_put(w, twice, 2, &e) != 0 && shard_writer_count(w) == 0,
           "a batch with a duplicate path stores nothing: %s", e.text);
    shard_writer_close(w);
}

/* On a full file system, nothing that was committed is lost. */
static void test_full_disk(void)
{
    struct error e = {""};
    struct shard_writer *w = shards_open("full", 0, 1);
    struct rlimit old, small = {900000, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int n = 0;
    while (n < 1000 && shards_put(w, n, 10, 0, &e) == 0)
        n += 10;
    setrlimit(RLIMIT_FSIZE, &old);
    tap_ok(n > 0 && n < 1000 && *e.text, "a full disk is an error after %d records: %s", n, e.text);
    shard_writer_close(w);
    shards_ok_clean("full", "after the full disk");
    *e.text = 0;
    w = shards_open("full", 0, 0);
    tap_ok(w && shard_writer_count(w) == n, "committed records are intact");
    tap_ok(w && shards_put(w, n, 10, 0, &e) == 0, "and more can be added: %s", e.text);
    shard_writer_close(w);
    shards_ok_clean("full", "after adding more");
}

int main(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    test_round_trip();
    test_paths();
    test_parts();
    test_growth_and_rollover();
    test_rerun();
    test_versions();
    test_mixing();
    test_second_writer();
    test_opened_twice();
    test_refused_items();
    test_full_disk();
    return tap_done();
}
