/* Searching stores by embeddings against plain float products, and the cache of embeddings: when it
 * is used, made again or ignored;
 * and duplicates against plain loops. */
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/score/duplicates.h"
#include "common/score/embeddings.h"
#include "common/score/search.h"
#include "formats/shards/embed_cache.h"
#include "tests/support/shards.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

enum { RECORDS = 700, SHARD = 300, WIDTH = SHARDS_EMBED };
static const struct embed_cache_rows cache_rows = {EMBED_CACHE_EMBEDDINGS, WIDTH};

static char *folder_of(const char *name)
{
    return xstrdup(shards_folder(name));
}

static bool open_all(struct embed_stores *s, int n, const char *const *names)
{
    char *folders[4] = {0};
    struct error e;
    for (int i = 0; i < n; i++)
        folders[i] = folder_of(names[i]);
    int status = embed_stores_open(s, EMBED_CACHE_EMBEDDINGS, (const char *const *)folders, n, &e);
    for (int i = 0; i < n; i++)
        free(folders[i]);
    if (status != 0)
        tap_diag("%s", e.text);
    return status == 0;
}

static float plain_product(const float *a, const float *b)
{
    float sum = 0;
    for (int i = 0; i < WIDTH; i++)
        sum += a[i] * b[i];
    return sum;
}

struct scored {
    float score;
    int64_t at;
};

static int best_first(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at);
}

/* All records by plain products; record k of generation 0 is at k % RECORDS of its store. */
static void rank_plainly(struct scored *out, int64_t count, const float *direction)
{
    struct shards_sample sample;
    for (int64_t i = 0; i < count; i++) {
        shards_sample(&sample, (int)(i % RECORDS), 0);
        out[i] = (struct scored){plain_product(sample.embed, direction), i};
    }
    qsort(out, (size_t)count, sizeof *out, best_first);
}

/* Equal up to the rounding of float products: neighbors in the order may be exchanged then. */
static bool same_order(const struct hits *h, const struct scored *expected)
{
    for (int64_t i = 0; i < h->count; i++) {
        bool close = fabs(h->items[i].score - (double)expected[i].score) < 1e-6;
        if (!close || (i > 0 && h->items[i].score > h->items[i - 1].score))
            return false;
    }
    return true;
}

static void direction_of(float *direction, int k)
{
    struct shards_sample sample;
    shards_sample(&sample, k, 7);
    memcpy(direction, sample.embed, sizeof sample.embed);
}

static void test_order(void)
{
    static const char *const names[] = {"order", "order-too"};
    static const int64_t wanted[] = {1, 10, 699, 5000};
    struct embed_stores s;
    struct scored expected[2 * RECORDS];
    float direction[WIDTH];
    CHECK(shards_write(names[0], RECORDS, 100, SHARD, 0));
    CHECK(shards_write(names[1], RECORDS, 100, SHARD, 0));
    CHECK(open_all(&s, 2, names));
    for (int k = 0; k < 4; k++) {
        struct hits hits = {.most = wanted[k]};
        direction_of(direction, k);
        rank_plainly(expected, 2 * RECORDS, direction);
        search_stores(&hits, &s, direction, -INFINITY);
        int64_t count = wanted[k] < 2 * RECORDS ? wanted[k] : 2 * RECORDS;
        tap_ok(hits.count == count && same_order(&hits, expected),
               "the best %d are those of plain products, in their order", (int)count);
        /* The stores hold the same records, which therefore come in pairs. */
        bool pairs = true;
        for (int64_t i = 0; i + 1 < hits.count; i += 2)
            pairs &= hits.items[i].at + RECORDS == hits.items[i + 1].at;
        tap_ok(pairs, "of equal records, the first one is first");
        hits_release(&hits);
    }
    struct hits hits = {.most = INT64_MAX};
    double least = (double)expected[100].score - 1e-6;
    search_stores(&hits, &s, direction, least);
    tap_ok(hits.count >= 101 && hits.items[hits.count - 1].score >= least && hits.count < 110,
           "all with at least a score");
    hits_release(&hits);
    embed_stores_close(&s);
}

struct sum {
    _Atomic int64_t records;
    double *first; /* [count]: first elements */
};

static void take(void *context, const float *rows, int64_t first, int64_t n, int worker)
{
    struct sum *sum = context;
    for (int64_t i = 0; i < n; i++)
        sum->first[first + i] = (double)rows[i * WIDTH];
    atomic_fetch_add(&sum->records, n);
}

/* Whether a scan gives what the store has; generation: of the records below `changed`. */
static bool scans(const char *name, int count, int changed, bool use_cache)
{
    struct embed_stores s;
    struct shards_sample sample;
    bool good = open_all(&s, 1, &name) && s.count == count;
    if (!good)
        return false;
    struct sum sum = {.first = xcalloc((size_t)count, sizeof *sum.first)};
    s.use_cache = use_cache;
    embed_stores_scan(&s, take, &sum);
    good = sum.records == count && s.damaged == 0;
    for (int k = 0; k < count; k++) {
        shards_sample(&sample, k, k < changed);
        good &= sum.first[k] == (double)sample.embed[0];
    }
    free(sum.first);
    embed_stores_close(&s);
    return good;
}

/* Whether there is a cache, and it is current. */
static bool is_cached(const char *name)
{
    struct shard_store *s;
    struct embed_cache c;
    struct error e;
    char *folder = folder_of(name);
    if (shard_store_open(&s, folder, &e) != 0)
        die("%s", e.text);
    bool cached = embed_cache_open(&c, folder, s, &cache_rows, &e) == 0;
    if (cached)
        for (int64_t i = 0; i * EMBED_CACHE_BLOCK < c.count; i++)
            cached &= embed_cache_check(&c, i);
    embed_cache_close(&c);
    shard_store_close(s);
    free(folder);
    return cached;
}

static void put(const char *name, int first, int n, int generation)
{
    struct error e;
    struct shard_writer *w = shards_open(name, SHARD, 0);
    CHECK(w && shards_put(w, first, n, generation, &e) == 0 && shard_writer_finish(w, &e) == 0);
    shard_writer_close(w);
}

static char *cache_of(const char *name)
{
    char *folder = folder_of(name), *path = path_join(folder, EMBED_CACHE_NAME);
    free(folder);
    return path;
}

static void test_cache_is_current(void)
{
    const char *name = "cached";
    struct stat before, after;
    char *path = cache_of(name);
    CHECK(shards_write(name, RECORDS, 100, SHARD, 0));
    tap_ok(scans(name, RECORDS, 0, false) && !file_exists(path), "without a cache, none is made");
    tap_ok(scans(name, RECORDS, 0, true) && is_cached(name), "the first scan makes a cache");
    CHECK(stat(path, &before) == 0);
    tap_ok(scans(name, RECORDS, 0, true) && stat(path, &after) == 0 &&
               before.st_ino == after.st_ino,
           "the next one reads it");
    put(name, RECORDS, 50, 0);
    tap_ok(!is_cached(name) && scans(name, RECORDS + 50, 0, true) && is_cached(name),
           "a store that has grown gets a new one");
    put(name, 0, 3, 1);
    tap_ok(!is_cached(name) && scans(name, RECORDS + 50, 3, true) && is_cached(name),
           "and one with replaced records");
    put(name, 0, 3, 0);
    bool remove[RECORDS + 50] = {[RECORDS + 49] = true}, completed;
    struct shard_remover *r;
    char *folder = folder_of(name);
    CHECK(shard_remover_open(&r, folder, &completed, NULL) == 0 &&
          shard_remover_run(r, remove, NULL) == 0);
    shard_remover_close(r);
    tap_ok(!file_exists(path) && scans(name, RECORDS + 49, 0, true) && is_cached(name),
           "removing records deletes it");
    free(folder);
    free(path);
}

/* Changes a byte at a place in [0, 1] of the file. */
static void damage(const char *path, double place)
{
    struct stat st;
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    off_t at = (off_t)(place * (double)(st.st_size - 1));
    CHECK(pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void test_damaged_cache(void)
{
    const char *name = "harmed";
    char *path = cache_of(name), *other = cache_of("cached");
    struct stat st;
    CHECK(shards_write(name, RECORDS, 100, SHARD, 0) && scans(name, RECORDS, 0, true));
    for (int i = 0; i <= 8; i++) {
        damage(path, i / 8.0);
        tap_ok(!is_cached(name) && scans(name, RECORDS, 0, true) && scans(name, RECORDS, 0, true) &&
                   is_cached(name),
               "damage at %d of 8 of the cache changes no result", i);
    }
    CHECK(stat(path, &st) == 0 && truncate(path, st.st_size - 1) == 0);
    tap_ok(scans(name, RECORDS, 0, true) && is_cached(name), "a truncated cache is made again");
    CHECK(rename(other, path) == 0);
    tap_ok(!is_cached(name) && scans(name, RECORDS, 0, true) && is_cached(name),
           "so is that of another store");
    CHECK(unlink(path) == 0 && mkdir(path, 0777) == 0);
    tap_ok(scans(name, RECORDS, 0, true), "without a cache that can be written, it works as well");
    CHECK(rmdir(path) == 0);
    free(path);
    free(other);
}

/* A store that is written to while it is read is not cached as it was. */
static void test_written_meanwhile(void)
{
    const char *name = "changing";
    struct shard_store *s;
    struct embed_cache_writer w;
    struct error e;
    CHECK(shards_write(name, 10, 10, SHARD, 0));
    char *folder = folder_of(name), *path = cache_of(name);
    float rows[10 * WIDTH] = {0};
    pid_t child;
    CHECK(shard_store_open(&s, folder, &e) == 0 &&
          embed_cache_create(&w, folder, s, &cache_rows, &e) == 0);
    CHECK(embed_cache_append(&w, rows, 10, &e) == 0);
    fflush(stdout);
    if ((child = fork()) == 0) { /* a process opens a shard only once */
        put(name, 0, 2, 1);
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    tap_ok(status == 0 && embed_cache_finish(&w, s, &e) != 0 && !file_exists(path),
           "records replaced while they are read are not cached");
    shard_store_close(s);
    free(folder);
    free(path);
}

/* What duplicates.h says, for records that shards_sample makes. nearest: [count] */
static int64_t repeat_plainly(struct duplicate *nearest, float (*embeds)[WIDTH], int64_t count,
                              double limit)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        nearest[i] = (struct duplicate){i, i, INFINITY, false};
        for (int64_t j = 0; j < i; j++) {
            double distance = embeddings_distance2(embeds[i], embeds[j], WIDTH) / 2;
            if (nearest[j].first == j && distance <= limit && distance < nearest[i].distance)
                nearest[i] = (struct duplicate){j, i, distance, false};
        }
        found += nearest[i].first != i;
    }
    return found;
}

static bool same_duplicates(const struct duplicates *d, const struct duplicate *nearest)
{
    bool same = true;
    for (int64_t i = 0; i < d->count; i++) {
        const struct duplicate *x = &d->items[i], *expected = &nearest[x->at];
        bool ordered =
            i == 0 || x[-1].first < x->first || (x[-1].first == x->first && x[-1].at < x->at);
        same &= ordered && x->first == expected->first && x->distance == expected->distance;
    }
    return same;
}

/* More records than a block of products. */
static void test_duplicates(struct tape *t)
{
    enum { MANY = 2500 };
    static const double limits[] = {0, 0.1, 0.2, 2};
    static const char *const name = "repeated";
    static float embeds[MANY][WIDTH];
    static struct duplicate nearest[MANY];
    struct embed_stores s;
    struct shards_sample sample;
    if (!folder_exists(shards_folder(name)))
        CHECK(shards_write(name, MANY, 500, 1000, 0));
    for (int k = 0; k < MANY; k++) {
        shards_sample(&sample, k, 0);
        memcpy(embeds[k], sample.embed, sizeof sample.embed);
    }
    CHECK(open_all(&s, 1, &name));
    for (int i = 0; i < 4; i++) {
        struct duplicates d;
        int64_t expected = repeat_plainly(nearest, embeds, MANY, limits[i]);
        duplicates_find(&d, &s, t, limits[i], NULL);
        tap_ok(d.count == expected && same_duplicates(&d, nearest),
               "%s: within %g are %d, as plain loops find", subject_name(t->device), limits[i],
               (int)expected);
        duplicates_release(&d);
    }
    embed_stores_close(&s);
}

/* Copies in two stores, at distance 0, in the order of the stores. */
static void test_copies(struct tape *t)
{
    static const char *const names[] = {"order", "order-too"};
    struct embed_stores s;
    struct duplicates d;
    CHECK(open_all(&s, 2, names));
    duplicates_find(&d, &s, t, 0, NULL);
    bool good = d.count == RECORDS && d.groups == RECORDS;
    for (int64_t i = 0; i < d.count; i++)
        good &= d.items[i].first == i && d.items[i].at == RECORDS + i && d.items[i].distance <= 0;
    tap_ok(good, "%s: a store with the same records repeats the first one",
           subject_name(t->device));
    duplicates_release(&d);
    embed_stores_close(&s);
}

static void test_on(const char *spec)
{
    struct device *device = subject_open(spec);
    struct tape t;
    tape_init(&t, device);
    test_copies(&t);
    if (!subject_small())
        test_duplicates(&t);
    tape_release(&t);
    device_close(device);
}

int main(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    threads_init(3);
    test_order();
    test_cache_is_current();
    test_damaged_cache();
    test_written_meanwhile();
    for (const char *const *device = subject_devices(); *device; device++)
        test_on(*device);
    return tap_done();
}
