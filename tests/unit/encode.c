#include "common/encode/pipeline.h"

#include <inttypes.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/input_faults.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

/* An encoder without images or networks: a file holds a number k, and its latents are those of
 * shards_sample for k. Files take very different times, so they finish out of order. */
#define MOST_AT_ONCE 128
struct fake {
    _Atomic int prepared, encoded;
    sig_atomic_t stop; /* set after preparing stop_at files, which then take longer */
    int stop_at;
    int fail_batch; /* the networks fail at this batch; 0: never */
    int batches;
    int nan_from, nan_to; /* k whose latents are not finite */
    int loaded, running;  /* images held between the calls */
    float input[MOST_AT_ONCE], work[MOST_AT_ONCE];
};

static int prepare(void *context, const struct encode_file *file, float *image, float *square,
                   int *width, int *height, char note[128], struct error *e)
{
    struct fake *f = context;
    char text[16];
    snprintf(text, sizeof text, "%.*s", (int)file->size, (const char *)file->data);
    int k = atoi(text);
    if (k < 0)
        return error_set(e, "truncated JPEG");
    nanosleep(&(struct timespec){.tv_nsec = k * 7919 % 13 * 100000}, NULL);
    int prepared = atomic_fetch_add(&f->prepared, 1) + 1;
    if (prepared == f->stop_at)
        __atomic_store_n(&f->stop, SIGTERM, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&f->stop, __ATOMIC_SEQ_CST))
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    *image = *square = (float)k;
    *width = 100 + k;
    *height = 200 + k;
    return 0;
}

static int load(void *context, int n, const float *images, const float *squares, struct error *e)
{
    struct fake *f = context;
    CHECK(n <= MOST_AT_ONCE && f->loaded == 0);
    f->loaded = n;
    for (int i = 0; i < n; i++) {
        CHECK(squares[i] == images[i]);
        f->input[i] = images[i];
    }
    return 0;
}

static int run(void *context, struct error *e)
{
    struct fake *f = context;
    CHECK(f->loaded > 0 && f->running == 0); /* the previous run has been fetched */
    if (++f->batches == f->fail_batch)
        return error_set(e, "out of memory");
    memcpy(f->work, f->input, sizeof f->work);
    f->running = f->loaded;
    f->loaded = 0;
    return 0;
}

static int fetch(void *context, float *moments, float *embeds, struct error *e)
{
    struct fake *f = context;
    CHECK(f->running > 0);
    for (int i = 0; i < f->running; i++) {
        int k = (int)f->work[i];
        struct shards_sample x;
        shards_sample(&x, k, 0);
        memcpy(moments + i * 2 * SHARDS_LATENT, x.moments, sizeof x.moments);
        memcpy(embeds + i * SHARDS_EMBED, x.embed, sizeof x.embed);
        if (k >= f->nan_from && k < f->nan_to)
            moments[i * 2 * SHARDS_LATENT + 9] = NAN;
    }
    f->encoded += f->running;
    f->running = 0;
    return 0;
}

/* shards_sample uses the path "photos/K.jpg": tests run in test_folder(). */
static void write_photo(int k, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "photos/%d.jpg", k);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void write_photos(int first, int n)
{
    for (int k = first; k < first + n; k++) {
        char text[16];
        snprintf(text, sizeof text, "%d\n", k);
        write_photo(k, text);
    }
}

/* A list of n photos from `first` on, as arguments. */
struct list {
    char **items;
    int n;
};

static struct list list_photos(int first, int n)
{
    struct list l = {.items = xcalloc((size_t)n, sizeof *l.items), .n = n};
    for (int i = 0; i < n; i++)
        l.items[i] = xasprintf("photos/%d.jpg", first + i);
    return l;
}

static void list_free(struct list *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->items[i]);
    free(l->items);
}

struct outcome {
    int status;
    struct encode_counts counts;
    struct error error;
};

static struct outcome run_source(const char *store, struct path_source *s, struct fake *f,
                                 const struct encode_options *options)
{
    struct outcome o = {.status = -2};
    struct encoder en = {.context = f,
                         .image_floats = 1,
                         .square_floats = 1,
                         .moments_floats = 2 * SHARDS_LATENT,
                         .embed_floats = SHARDS_EMBED,
                         .prepare = prepare,
                         .load = load,
                         .run = run,
                         .fetch = fetch};
    struct shard_writer *w = shards_open(store, 25, 1);
    if (w)
        o.status = encode_run(&en, s, w, options, &o.counts, &o.error);
    shard_writer_close(w);
    return o;
}

static struct encode_options options_of(int batch, int threads)
{
    return (struct encode_options){
        .batch_size = batch, .decode_threads = threads, .rejects_separator = '\n'};
}

static struct outcome run_photos(const char *store, int first, int n, struct fake *f, int batch,
                                 int threads)
{
    struct path_source s;
    struct encode_options options = options_of(batch, threads);
    struct list l = list_photos(first, n);
    path_source_arguments(&s, l.n, l.items);
    struct outcome o = run_source(store, &s, f, &options);
    path_source_release(&s);
    list_free(&l);
    return o;
}

/* Whether the store holds n photos from `first` on, in order, and nothing else. */
static bool holds(const char *store, int first, int n, bool finished)
{
    struct shard_store *s;
    struct error e;
    if (shard_store_open(&s, shards_folder(store), &e)) {
        tap_diag("%s", e.text);
        return false;
    }
    bool good = shard_store_count(s) == n && shard_store_finished(s) == finished;
    for (int i = 0; good && i < n; i++)
        good = shards_record_is(s, i, first + i, 0);
    if (!good)
        tap_diag("%" PRId64 " records, finished %d", shard_store_count(s), shard_store_finished(s));
    shard_store_close(s);
    return good;
}

static void test_order(void)
{
    const struct {
        int batch, threads;
    } cases[] = {{1, 1}, {8, 1}, {7, 4}, {64, 8}, {200, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char store[32];
        struct fake f = {0};
        snprintf(store, sizeof store, "order%zu", i);
        struct outcome o = run_photos(store, 0, 100, &f, cases[i].batch, cases[i].threads);
        tap_ok(o.status == 0 && o.counts.encoded == 100 && o.counts.listed == 100 &&
                   holds(store, 0, 100, true),
               "batches of %d, %d threads: output in input order", cases[i].batch,
               cases[i].threads);
        shards_ok_clean(store, "after encoding");
    }
}

static void test_rerun(void)
{
    struct fake f = {0};
    struct outcome o = run_photos("order0", 0, 100, &f, 8, 2);
    tap_ok(o.status == 0 && o.counts.skipped == 100 && o.counts.encoded == 0 && f.prepared == 0 &&
               f.encoded == 0,
           "a rerun skips all files and reads none");
    o = run_photos("order0", 50, 100, &f, 8, 2);
    tap_ok(o.status == 0 && o.counts.skipped == 50 && o.counts.encoded == 50 &&
               holds("order0", 0, 150, true),
           "an overlapping list adds only new files");
    write_photo(20, "20  \n"); /* another size */
    f = (struct fake){0};
    o = run_photos("order0", 0, 150, &f, 8, 2);
    tap_ok(o.status == 0 && o.counts.encoded == 1 && f.encoded == 1 &&
               holds("order0", 0, 150, true),
           "a changed file is encoded again and replaces its record");
    shards_ok_clean("order0", "after three runs");
}

static void test_duplicates(void)
{
    struct list l = list_photos(0, 30);
    for (int i = 10; i < 30; i++) {
        free(l.items[i]);
        l.items[i] = xstrdup(l.items[i % 10]);
    }
    struct fake f = {0};
    struct path_source s;
    struct encode_options options = options_of(4, 3);
    path_source_arguments(&s, l.n, l.items);
    struct outcome o = run_source("twice", &s, &f, &options);
    tap_ok(o.status == 0 && o.counts.repeated == 20 && o.counts.encoded == 10 &&
               holds("twice", 0, 10, true),
           "a path listed three times is encoded once");
    list_free(&l);
}

/* Parts of a list go to stores of their own. A rerun with the list in another order agrees. */
static void test_parts(void)
{
    enum { N = 60, PARTS = 3 };
    int64_t encoded = 0;
    bool good = true, again = true, disjoint = true;
    bool seen[N] = {false};
    for (int part = 0; part < PARTS; part++) {
        char store[32];
        snprintf(store, sizeof store, "part%d", part);
        struct encode_options options = options_of(4, 2);
        options.part = part;
        options.parts = PARTS;
        for (int run = 0; run < 2; run++) {
            struct list l = list_photos(0, N);
            for (int i = 0; run == 1 && i < N / 2; i++) { /* reversed */
                char *other = l.items[N - 1 - i];
                l.items[N - 1 - i] = l.items[i];
                l.items[i] = other;
            }
            struct fake f = {0};
            struct path_source s;
            path_source_arguments(&s, l.n, l.items);
            struct outcome o = run_source(store, &s, &f, &options);
            struct encode_counts *c = &o.counts;
            good &= o.status == 0 && c->failed == 0 && c->listed + c->other_part == N;
            if (run == 0) {
                encoded += c->encoded;
                good &= c->encoded == c->listed && c->encoded > 0 && f.prepared == c->encoded;
            } else {
                again &= c->encoded == 0 && c->skipped == c->listed && f.prepared == 0;
            }
            list_free(&l);
        }
        struct shard_store *s;
        struct shard_record r;
        shard_record_init(&r);
        CHECK(shard_store_open(&s, shards_folder(store), NULL) == 0);
        good &= shard_store_finished(s);
        for (int64_t i = 0; i < shard_store_count(s); i++) {
            CHECK(shard_store_read(s, i, &r, NULL) == 0);
            int photo = atoi(strrchr(r.path, '/') + 1);
            disjoint &= photo >= 0 && photo < N && !seen[photo];
            seen[photo % N] = true;
        }
        shard_record_release(&r);
        shard_store_close(s);
    }
    tap_ok(good && encoded == N && disjoint, "each path of a list is in one of %d parts", PARTS);
    tap_ok(again, "a rerun of each part with the list reversed skips all of its paths");
}

/* A part without paths is processed, too: it looks at no file. */
static void test_empty_part(void)
{
    struct list l = list_photos(7000, 1); /* does not exist */
    struct encode_options options = options_of(4, 2);
    int64_t failed = 0, other = 0;
    options.parts = 5;
    for (options.part = 0; options.part < options.parts; options.part++) {
        struct fake f = {0};
        struct path_source s;
        path_source_arguments(&s, l.n, l.items);
        struct outcome o = run_source("nothing", &s, &f, &options);
        failed += o.counts.failed;
        other += o.counts.other_part;
    }
    tap_ok(failed == 1 && other == 4, "a missing file fails in its own part only");
    list_free(&l);
}

static void test_bad_files(void)
{
    write_photos(300, 20);
    write_photo(303, "-1\n");
    write_photo(307, "");
    unlink("photos/308.jpg");
    unlink("photos/311.jpg");
    CHECK(symlink("/dev/null", "photos/311.jpg") == 0);
    unlink("photos/319.jpg");
    CHECK(mkfifo("photos/319.jpg", 0666) == 0);
    struct fake f = {0};
    struct path_source s;
    struct encode_options options = options_of(4, 3);
    options.rejects = fopen("rejects", "w");
    struct list l = list_photos(300, 20);
    path_source_arguments(&s, l.n, l.items);
    struct outcome o = run_source("bad", &s, &f, &options);
    fclose(options.rejects);
    tap_ok(o.status == 0 && o.counts.failed == 5 && o.counts.encoded == 15,
           "five bad files of twenty do not stop the rest");
    uint8_t *data;
    size_t size;
    CHECK(file_read(&data, &size, "rejects", 10000, &o.error) == 0);
    tap_ok(!strcmp((const char *)data, "photos/303.jpg\nphotos/307.jpg\nphotos/308.jpg\n"
                                       "photos/311.jpg\nphotos/319.jpg\n"),
           "the rejects file has their paths, in order");
    free(data);
    shards_ok_clean("bad", "with bad files skipped");
    list_free(&l);

    f = (struct fake){.nan_from = 5, .nan_to = 8};
    o = run_photos("nan", 0, 20, &f, 4, 2);
    tap_ok(o.status == 0 && o.counts.failed == 3 && o.counts.bad_latents == 3 &&
               o.counts.encoded == 17,
           "files with non-finite latents fail, the rest of their batch does not");
    shards_ok_clean("nan", "with non-finite files skipped");

    options = options_of(4, 2);
    options.rejects = fopen("/dev/full", "w");
    l = list_photos(303, 30);
    path_source_arguments(&s, l.n, l.items);
    f = (struct fake){0};
    o = run_source("devfull", &s, &f, &options);
    tap_ok(o.status == -1 && strstr(o.error.text, "rejects"),
           "a full rejects file ends the run: %s", o.error.text);
    fclose(options.rejects);
    list_free(&l);
}

/* The system's failures are no fault of a file: a short one is waited for, a long one ends the run.
 */
static void test_system_failures(void)
{
    static const int numbers[] = {EMFILE, ENFILE, ENOMEM, EIO};
    struct fake f = {0};
    write_photos(400, 40);
    for (int i = 0; i < 4; i++) {
        char store[32];
        snprintf(store, sizeof store, "passing%d", i);
        input_faults_set("photos/413.jpg", numbers[i], 2);
        struct outcome o = run_photos(store, 400, 40, &f, 4, 3);
        tap_ok(o.status == 0 && o.counts.failed == 0 && input_faults_left() == 0 &&
                   holds(store, 400, 40, true),
               "'%s' twice: the file is tried again", strerror(numbers[i]));
    }
    FILE *rejects = fopen("rejects", "w");
    struct encode_options options = options_of(4, 3);
    struct list l = list_photos(400, 40);
    struct path_source s;
    options.rejects = rejects;
    path_source_arguments(&s, l.n, l.items);
    input_faults_set("photos/413.jpg", EMFILE, 1000);
    struct outcome o = run_source("lasting", &s, &f, &options);
    input_faults_set("", 0, 0);
    tap_ok(o.status == -1 && strstr(o.error.text, "cannot read 'photos/413.jpg': Too many open"),
           "a lasting failure ends the run: %s", o.error.text);
    tap_ok(o.counts.failed == 0 && ftell(rejects) == 0 && o.counts.encoded == 13 &&
               holds("lasting", 400, 13, false),
           "no file is rejected, and all before it are stored");
    path_source_arguments(&s, l.n, l.items);
    o = run_source("lasting", &s, &f, &options);
    tap_ok(o.status == 0 && o.counts.skipped == 13 && holds("lasting", 400, 40, true),
           "a rerun encodes the rest");
    fclose(rejects);
    list_free(&l);
}

static void write_changed(int k, const char *text)
{
    char path[64];
    write_photo(k, text);
    snprintf(path, sizeof path, "photos/%d.jpg", k);
    struct timespec times[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000 + atoi(text)}};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static struct outcome run_unique(const char *store, const int *photos, int n, int threads)
{
    struct fake f = {0};
    struct path_source s;
    struct encode_options options = options_of(3, threads);
    struct list l = {.items = xcalloc((size_t)n, sizeof *l.items), .n = n};
    struct shard_writer *w = shards_open(store, 25, 1);
    int64_t unhashed;
    for (int i = 0; i < n; i++)
        l.items[i] = xasprintf("photos/%d.jpg", photos[i]);
    options.unique = unique_new(false);
    CHECK(w && unique_add_store(options.unique, w, &unhashed, NULL) == 0);
    shard_writer_close(w);
    path_source_arguments(&s, l.n, l.items);
    struct outcome o = run_source(store, &s, &f, &options);
    unique_free(options.unique);
    list_free(&l);
    return o;
}

static bool counts_are(const struct outcome *o, int encoded, int skipped, int duplicates)
{
    const struct encode_counts *c = &o->counts;
    if (o->status == 0 && c->encoded == encoded && c->skipped == skipped &&
        c->duplicates == duplicates && c->failed == 0)
        return true;
    tap_diag("status %d (%s): %d encoded, %d skipped, %d duplicates", o->status, o->error.text,
             (int)c->encoded, (int)c->skipped, (int)c->duplicates);
    return false;
}

static void test_unique(void)
{
    int photos[60];
    char text[16];
    for (int i = 0; i < 60; i++) {
        photos[i] = 500 + i;
        snprintf(text, sizeof text, "%d\n", 500 + (i * i + i) % 20);
        write_changed(500 + i, text);
    }
    /* (i * i + i) % 20 is 0, 2, 6, 10, 12 or 16. */
    struct outcome one = run_unique("alike", photos, 60, 1);
    struct outcome four = run_unique("alike4", photos, 60, 4);
    tap_ok(counts_are(&one, 6, 0, 54) && counts_are(&four, 6, 0, 54),
           "images with the same bytes are encoded once, also if all are on their way");
    bool same = true;
    for (int i = 0; i < 60; i++) {
        struct shard_path_found a, b;
        struct shard_writer *w = shards_open("alike", 25, 1), *v = shards_open("alike4", 25, 1);
        snprintf(text, sizeof text, "photos/%d.jpg", 500 + i);
        CHECK(shard_writer_lookup(w, text, 0, 0, &a, NULL) == 0 &&
              shard_writer_lookup(v, text, 0, 0, &b, NULL) == 0);
        same &= a.state == b.state && (i != 0 || a.state != SHARD_PATH_NEW);
        shard_writer_close(w);
        shard_writer_close(v);
    }
    tap_ok(same, "the first of them, however many threads there are");
    one = run_unique("alike", photos, 60, 4);
    tap_ok(counts_are(&one, 0, 6, 54), "a rerun encodes nothing");
}

/* A record is replaced; another image has the bytes that it had. */
static void test_unique_replaced(void)
{
    write_changed(600, "600\n");
    write_changed(601, "600\n");
    struct outcome o = run_unique("replaced", (int[]){600, 601}, 2, 2);
    bool begun = counts_are(&o, 1, 0, 1);
    write_changed(600, "602\n");
    o = run_unique("replaced", (int[]){600, 601}, 2, 2);
    tap_ok(begun && counts_are(&o, 2, 0, 0) && o.counts.orphans == 0,
           "what was left out because of a record is encoded when that is replaced");
    write_changed(602, "602\n");
    write_changed(600, "603\n");
    o = run_unique("replaced", (int[]){602, 600}, 2, 2);
    tap_ok(counts_are(&o, 1, 0, 1) && o.counts.orphans == 1,
           "if the replacement comes later in the list, it is told");
    o = run_unique("replaced", (int[]){602, 600}, 2, 2);
    tap_ok(counts_are(&o, 1, 1, 0), "and encoded by the next run");
    write_changed(601, "603\n");
    o = run_unique("replaced", (int[]){600, 601, 602}, 3, 2);
    tap_ok(counts_are(&o, 1, 2, 0), "a changed image always replaces its record");
    shards_ok_clean("replaced", "then");
}

static void test_stop(void)
{
    struct fake f = {.stop_at = 40};
    struct path_source s;
    struct encode_options options = options_of(4, 2);
    options.stop = &f.stop;
    struct list l = list_photos(0, 100);
    path_source_arguments(&s, l.n, l.items);
    struct outcome o = run_source("stop", &s, &f, &options);
    int n = (int)o.counts.encoded;
    tap_ok(o.status == 0 && o.counts.interrupted && n > 0 && n < 100 && f.encoded == n,
           "stopped after %d files; all results of the networks are stored", n);
    tap_ok(holds("stop", 0, n, false),
           "the store has the beginning of the list and is not finished");
    f = (struct fake){0};
    path_source_arguments(&s, l.n, l.items);
    o = run_source("stop", &s, &f, &options);
    tap_ok(o.status == 0 && o.counts.skipped == n && holds("stop", 0, 100, true),
           "a rerun encodes the rest");
    list_free(&l);

    /* The run must not wait for a list that never arrives. */
    int silent[2];
    CHECK(pipe(silent) == 0);
    f.stop = SIGTERM;
    path_source_stream(&s, silent[0], '\n');
    o = run_source("stop", &s, &f, &options);
    tap_ok(o.status == 0 && o.counts.interrupted && o.counts.listed == 0,
           "stopping while waiting for the list ends the run");
    path_source_release(&s);
}

static void test_failures(void)
{
    struct fake f = {.fail_batch = 4};
    struct outcome o = run_photos("oom", 0, 100, &f, 5, 3);
    tap_ok(o.status == -1 && !strcmp(o.error.text, "out of memory") && o.counts.encoded == 15 &&
               holds("oom", 0, 15, false),
           "if the networks fail, earlier batches are kept");

    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){100000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    f = (struct fake){0};
    write_photos(0, 200);
    o = run_photos("fulldisk", 0, 200, &f, 100, 3);
    setrlimit(RLIMIT_FSIZE, &old);
    tap_ok(o.status == -1 && o.counts.encoded < 200, "a full disk ends the run: %s", o.error.text);
}

static const char *joined(const char *list, size_t size, char separator, int64_t *count,
                          struct error *e)
{
    static char text[1000];
    struct path_source s;
    const char *path;
    FILE *f = fopen("list", "w+");
    CHECK(f && fwrite(list, 1, size, f) == size && fflush(f) == 0);
    CHECK(lseek(fileno(f), 0, SEEK_SET) == 0);
    path_source_stream(&s, fileno(f), separator);
    *count = path_source_count(&s);
    text[0] = 0;
    int got;
    while ((got = path_source_next(&s, -1, &path, e)) > 0)
        strcat(strcat(text, path), "|");
    path_source_release(&s);
    fclose(f);
    return got ? NULL : text;
}

static void test_path_source(void)
{
    int64_t count;
    struct error e = {""};
    const char *text = joined("a\n\nb c\nd", 8, '\n', &count, &e);
    tap_ok(text && !strcmp(text, "a|b c|d|") && count == 3,
           "lines: empty ones are skipped, the last needs no line feed");
    text = joined("a\nb\0c\0\0", 7, 0, &count, &e);
    tap_ok(text && !strcmp(text, "a\nb|c|") && count == 2, "NUL-separated paths");
    text = joined("", 0, '\n', &count, &e);
    tap_ok(text && !*text && count == 0, "an empty list");
    text = joined("a\0b\n", 4, '\n', &count, &e);
    tap_ok(!text && strstr(e.text, "-0"), "a NUL character in lines: %s", e.text);
    char *junk = xmalloc(300000);
    memset(junk, 'x', 300000);
    text = joined(junk, 300000, '\n', &count, &e);
    tap_ok(!text && strstr(e.text, "not a list of paths"), "one endless line: %s", e.text);
    for (int i = 1; i < 150; i++)
        junk[2000 * i] = '\n';
    struct path_source s;
    const char *path;
    int fds[2], n = 0;
    CHECK(pipe(fds) == 0 && fcntl(fds[1], F_SETPIPE_SZ, 1 << 19) > 0);
    CHECK(write(fds[1], junk, 300000) == 300000 && close(fds[1]) == 0);
    path_source_stream(&s, fds[0], '\n');
    bool good = path_source_count(&s) == -1;
    while (path_source_next(&s, -1, &path, &e) > 0) {
        good &= strlen(path) == (n == 0 ? 2000u : 1999u);
        n++;
    }
    tap_ok(good && n == 150, "150 lines from a pipe, intact across reads");
    path_source_release(&s);
    close(fds[0]);
    free(junk);

    struct outcome o;
    struct fake f = {0};
    struct encode_options options = options_of(4, 2);
    path_source_arguments(&s, 0, (char *[]){NULL});
    o = run_source("empty", &s, &f, &options);
    tap_ok(o.status == 0 && o.counts.listed == 0, "an empty list encodes nothing");
}

int main(void)
{
    message_init("encode");
    CHECK(chdir(test_folder()) == 0 && mkdir("photos", 0777) == 0);
    CHECK(freopen("warnings", "w", stderr));
    write_photos(0, 150);
    test_order();
    test_rerun();
    test_duplicates();
    test_parts();
    test_empty_part();
    test_bad_files();
    test_system_failures();
    test_stop();
    test_unique();
    test_unique_replaced();
    test_failures();
    test_path_source();
    return tap_done();
}
