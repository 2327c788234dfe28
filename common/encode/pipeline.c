#include "common/encode/pipeline.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/complaints.h"
#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/path_set.h"

#define WATCH_MILLISECONDS 100
#define BATCHES            3 /* one being assembled, one in the networks, one being written */

/* A file between the list and the networks. */
struct slot {
    bool done;  /* decoded, or failed */
    int status; /* 0, -1: a bad file, READ_SYSTEM_FAILED */
    char *path;
    int64_t size, mtime_ns;
    int width, height;
    float *image, *square;
    struct error error;
};

struct batch {
    int n;
    struct shard_item *items; /* paths are owned */
    float *moments, *embeds;
};

struct pipeline {
    const struct encoder *encoder;
    const struct encode_options *options;
    struct path_source *paths;
    struct shard_writer *store;
    int64_t expected; /* paths in the list, -1: unknown */
    int wake[2];      /* pipe that becomes readable on stopping, for threads that wait in poll() */

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t room;   /* a slot is free */
    pthread_cond_t work;   /* a slot is ready to decode, or no more will come */
    pthread_cond_t ready;  /* a slot is done, a batch is free, or the list has ended */
    pthread_cond_t full;   /* a batch is ready to write, or no more will come */
    bool stop;             /* take no more files */
    bool failed;           /* give up; error says why */
    bool list_ended, batches_ended;
    struct error error;
    struct encode_counts counts;
    struct complaints *complaints;

    /* Files are numbered in input order; file i uses slot i % slot_count.
     * taken <= decoding <= filled, and filled - taken <= slot_count. */
    struct slot *slots;
    int64_t slot_count, filled, decoding, taken;

    struct batch batches[BATCHES];
    int64_t submitted, written; /* counts of batches; number i is batches[i % BATCHES] */

    float *images, *squares; /* the networks' inputs */
};

/* Called with the mutex held. */
static void wake_all(struct pipeline *p)
{
    while (write(p->wake[1], "", 1) < 0 && errno == EINTR) {
    }
    pthread_cond_broadcast(&p->room);
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->ready);
    pthread_cond_broadcast(&p->full);
}

/* Ends all stages; the first error is the one reported. */
static void fail(struct pipeline *p, const struct error *e)
{
    pthread_mutex_lock(&p->mutex);
    if (!p->failed) {
        p->failed = true;
        p->error = *e;
        wake_all(p);
    }
    pthread_mutex_unlock(&p->mutex);
}

/* Called with the mutex held. */
static void put_counts(struct pipeline *p)
{
    const struct encode_counts *c = &p->counts;
    struct encode_state s = {.counts = *c, .expected = -1};
    if (!p->options->tally)
        return;
    if (p->expected >= 0) {
        int64_t ahead = p->expected - c->listed - c->other_part; /* divided about evenly */
        s.expected = c->listed + ahead / (p->options->parts > 1 ? p->options->parts : 1) -
                     c->skipped - c->duplicates;
    }
    encode_tally_put(p->options->tally, p->options->tally_part, &s);
}

static void reject(struct pipeline *p, const char *path, const char *reason, bool bad_latents)
{
    complain(p->complaints, reason, "cannot encode '%s': %s", path, reason);
    int number = 0;
    pthread_mutex_lock(&p->mutex);
    p->counts.failed++;
    p->counts.bad_latents += bad_latents;
    FILE *f = p->options->rejects;
    if (f && (fputs(path, f) < 0 || putc(p->options->rejects_separator, f) == EOF || fflush(f)))
        number = errno;
    put_counts(p);
    pthread_mutex_unlock(&p->mutex);
    if (number != 0) {
        struct error e;
        errno = number;
        error_errno(&e, "cannot write the rejects file");
        fail(p, &e);
    }
}

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Waits for a free slot and fills it. Returns false if the pipeline is stopping instead. */
static bool add_file(struct pipeline *p, const char *path, const struct stat *st, int status,
                     const struct error *error)
{
    pthread_mutex_lock(&p->mutex);
    while (p->filled - p->taken == p->slot_count && !p->stop && !p->failed)
        pthread_cond_wait(&p->room, &p->mutex);
    bool taken = !p->stop && !p->failed;
    if (taken) {
        struct slot *s = &p->slots[p->filled % p->slot_count];
        s->path = xstrdup(path);
        s->size = st->st_size;
        s->mtime_ns = mtime_ns(st);
        s->status = status;
        s->done = status != 0;
        if (status != 0)
            s->error = *error;
        p->filled++;
        pthread_cond_signal(&p->work);
        if (status != 0)
            pthread_cond_signal(&p->ready);
    }
    pthread_mutex_unlock(&p->mutex);
    return taken;
}

static int check_file(const char *path, struct stat *st, struct error *e)
{
    int status, tries = 0;
    do
        status = stat(path, st) != 0 ? read_failed(e, errno) : 0;
    while (read_again(status, &tries));
    if (status != 0) {
        *st = (struct stat){0};
        return status;
    }
    if (S_ISDIR(st->st_mode))
        return error_set(e,
                         "is a directory (find DIR -type f | ccld-encode ... encodes its files)");
    if (!S_ISREG(st->st_mode))
        return error_set(e, "not a regular file");
    if (st->st_size == 0)
        return error_set(e, "empty file");
    return 0;
}

static void count_one(struct pipeline *p, int64_t *counter)
{
    pthread_mutex_lock(&p->mutex);
    (*counter)++;
    put_counts(p);
    pthread_mutex_unlock(&p->mutex);
}

/* Handles one path of the list. Returns 1 to continue, 0 to stop, -1 on failure. */
static int list_one(struct pipeline *p, struct path_set *seen, const char *path, struct error *e)
{
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, path);
    int parts = p->options->parts;
    bool ours = parts <= 1 || path_part(key, parts) == p->options->part;
    pthread_mutex_lock(&p->mutex);
    (*(ours ? &p->counts.listed : &p->counts.other_part))++;
    pthread_mutex_unlock(&p->mutex);
    if (!ours)
        return 1;
    if (!path_set_add(seen, key)) {
        count_one(p, &p->counts.duplicates);
        return 1;
    }
    struct stat st;
    struct error bad;
    int status = check_file(path, &st, &bad);
    if (status != 0)
        return add_file(p, path, &st, status, &bad);
    enum shard_path_state state;
    if (shard_writer_lookup(p->store, path, st.st_size, mtime_ns(&st), &state, e) != 0)
        return -1;
    if (state == SHARD_PATH_DONE) {
        count_one(p, &p->counts.skipped);
        return 1;
    }
    return add_file(p, path, &st, 0, NULL);
}

static void list_failed(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->counts.list_failed = true;
    pthread_mutex_unlock(&p->mutex);
}

static bool stopping(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    bool stop = p->stop || p->failed;
    pthread_mutex_unlock(&p->mutex);
    return stop;
}

static void *list_stage(void *arg)
{
    struct pipeline *p = arg;
    struct path_set seen;
    struct error e;
    const char *path;
    int status = 1;
    path_set_init(&seen);
    while (status > 0 && !stopping(p)) {
        status = path_source_next(p->paths, p->wake[0], &path, &e);
        if (status < 0)
            list_failed(p);
        else if (status > 0)
            status = list_one(p, &seen, path, &e);
    }
    path_set_release(&seen);
    if (status < 0)
        fail(p, &e);
    pthread_mutex_lock(&p->mutex);
    p->list_ended = true;
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* The next file to decode, or NULL when there are no more. */
static struct slot *next_to_decode(struct pipeline *p)
{
    struct slot *s = NULL;
    pthread_mutex_lock(&p->mutex);
    while (!s && !p->stop && !p->failed) {
        if (p->decoding < p->filled) {
            s = &p->slots[p->decoding++ % p->slot_count];
            s = s->done ? NULL : s;
        } else if (p->list_ended) {
            break;
        } else {
            pthread_cond_wait(&p->work, &p->mutex);
        }
    }
    pthread_mutex_unlock(&p->mutex);
    return s;
}

static void *decode_stage(void *arg)
{
    struct pipeline *p = arg;
    const struct encoder *en = p->encoder;
    for (struct slot *s; (s = next_to_decode(p));) {
        char note[128] = "";
        int status = en->prepare(en->context, s->path, s->image, s->square, &s->width, &s->height,
                                 note, &s->error);
        if (*note)
            complain(p->complaints, note, "'%s': %s", s->path, note);
        pthread_mutex_lock(&p->mutex);
        s->status = status;
        s->done = true;
        pthread_cond_signal(&p->ready);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

/* Waits for the next file in input order; NULL at the end of the list or when stopping. */
static struct slot *next_done(struct pipeline *p)
{
    struct slot *s = NULL;
    pthread_mutex_lock(&p->mutex);
    while (!s && !p->stop && !p->failed)
        if (p->taken < p->filled && p->slots[p->taken % p->slot_count].done)
            s = &p->slots[p->taken % p->slot_count];
        else if (p->list_ended && p->taken == p->filled)
            break;
        else
            pthread_cond_wait(&p->ready, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
    return s;
}

static void free_slot(struct pipeline *p, struct slot *s)
{
    pthread_mutex_lock(&p->mutex);
    free(s->path);
    s->path = NULL;
    p->taken++;
    /* A file that failed before decoding may be taken before the decoders have skipped it. */
    p->decoding = p->decoding < p->taken ? p->taken : p->decoding;
    pthread_cond_signal(&p->room);
    pthread_mutex_unlock(&p->mutex);
}

static void collect(struct pipeline *p, struct batch *b)
{
    const struct encoder *en = p->encoder;
    b->n = 0;
    for (struct slot *s; b->n < p->options->batch_size && (s = next_done(p)); free_slot(p, s)) {
        if (s->status == READ_SYSTEM_FAILED) {
            error_prefix(&s->error, "cannot read '%s'", s->path);
            fail(p, &s->error);
            break;
        }
        if (s->status != 0) {
            reject(p, s->path, s->error.text, false);
            continue;
        }
        size_t i = (size_t)b->n++;
        memcpy(p->images + i * en->image_floats, s->image, en->image_floats * sizeof *s->image);
        memcpy(p->squares + i * en->square_floats, s->square,
               en->square_floats * sizeof *s->square);
        b->items[i] = (struct shard_item){
            .path = s->path,
            .size = s->size,
            .mtime_ns = s->mtime_ns,
            .width = s->width,
            .height = s->height,
            .moments = b->moments + i * en->moments_floats,
            .embed = b->embeds + i * en->embed_floats,
        };
        s->path = NULL;
    }
}

static void clear_batch(struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        free((char *)b->items[i].path);
    b->n = 0;
}

/* Waits until the writer has returned a batch; NULL after a failure. running: the number of batches
 * in the networks. */
static struct batch *free_batch(struct pipeline *p, int running)
{
    pthread_mutex_lock(&p->mutex);
    while (p->submitted + running - p->written == BATCHES && !p->failed)
        pthread_cond_wait(&p->ready, &p->mutex);
    struct batch *b = p->failed ? NULL : &p->batches[(p->submitted + running) % BATCHES];
    pthread_mutex_unlock(&p->mutex);
    return b;
}

static bool next_is_done(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    bool done = p->taken < p->filled && p->slots[p->taken % p->slot_count].done;
    pthread_mutex_unlock(&p->mutex);
    return done;
}

/* Passes the batch in the networks on to the writer. */
static int fetch(struct pipeline *p, struct batch *b)
{
    const struct encoder *en = p->encoder;
    struct error e;
    if (en->fetch(en->context, b->moments, b->embeds, &e) != 0) {
        fail(p, &e);
        clear_batch(b);
        return -1;
    }
    pthread_mutex_lock(&p->mutex);
    p->submitted++;
    pthread_cond_signal(&p->full);
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

/* Runs the networks on b, after passing the batch *running, if any, on to the writer. */
static int run_networks(struct pipeline *p, struct batch **running, struct batch *b)
{
    const struct encoder *en = p->encoder;
    struct error e;
    int status = en->load(en->context, b->n, p->images, p->squares, &e);
    if (status == 0 && *running) {
        struct batch *before = *running;
        *running = NULL;
        if (fetch(p, before) != 0) {
            clear_batch(b);
            return -1;
        }
    }
    if (status == 0)
        status = en->run(en->context, &e);
    if (status != 0) {
        fail(p, &e);
        clear_batch(b);
        return -1;
    }
    *running = b;
    return 0;
}

static void network_stage(struct pipeline *p)
{
    struct batch *running = NULL;
    int status = 0;
    for (struct batch *b; status == 0 && (b = free_batch(p, running != NULL));) {
        if (running && !next_is_done(p)) { /* fetch results rather than wait for files */
            status = fetch(p, running);
            running = NULL;
            continue;
        }
        collect(p, b);
        if (b->n == 0)
            break;
        status = run_networks(p, &running, b);
    }
    if (running)
        fetch(p, running);
    pthread_mutex_lock(&p->mutex);
    p->batches_ended = true;
    pthread_cond_broadcast(&p->full);
    pthread_mutex_unlock(&p->mutex);
}

/* Rejects the items that cannot be stored and stores the rest. */
static int write_batch(struct pipeline *p, struct batch *b, const struct shard_info *info,
                       struct error *e)
{
    int good = 0;
    for (int i = 0; i < b->n; i++) {
        struct error bad;
        if (shard_item_check(&b->items[i], info, &bad) != 0) {
            reject(p, b->items[i].path, bad.text, true);
            free((char *)b->items[i].path);
        } else {
            b->items[good++] = b->items[i];
        }
    }
    b->n = good;
    return good > 0 ? shard_writer_put(p->store, b->items, good, e) : 0;
}

static struct batch *next_to_write(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    /* Results of the networks are kept even if another stage fails. */
    while (p->submitted == p->written && !p->batches_ended)
        pthread_cond_wait(&p->full, &p->mutex);
    struct batch *b = p->submitted > p->written ? &p->batches[p->written % BATCHES] : NULL;
    pthread_mutex_unlock(&p->mutex);
    return b;
}

static void *write_stage(void *arg)
{
    struct pipeline *p = arg;
    struct error e;
    for (struct batch *b; (b = next_to_write(p));) {
        if (write_batch(p, b, shard_writer_info(p->store), &e) != 0) {
            fail(p, &e);
            return NULL;
        }
        pthread_mutex_lock(&p->mutex);
        p->counts.encoded += b->n;
        clear_batch(b);
        p->written++;
        put_counts(p);
        pthread_cond_broadcast(&p->ready);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

/* Another thread may set *stop, or a signal that reached it. */
static bool is_set(const volatile sig_atomic_t *stop)
{
    return stop && __atomic_load_n(stop, __ATOMIC_RELAXED);
}

/* Sets p->stop when the caller says so. */
static void *watch_stage(void *arg)
{
    struct pipeline *p = arg;
    const volatile sig_atomic_t *stop = p->options->stop;
    struct pollfd woken = {.fd = p->wake[0], .events = POLLIN};
    while (poll(&woken, 1, WATCH_MILLISECONDS) <= 0 && !is_set(stop)) {
        pthread_mutex_lock(&p->mutex);
        put_counts(p); /* other processes progress as well */
        pthread_mutex_unlock(&p->mutex);
    }
    if (is_set(stop)) {
        pthread_mutex_lock(&p->mutex);
        p->stop = true;
        wake_all(p);
        pthread_mutex_unlock(&p->mutex);
    }
    return NULL;
}

static void start(pthread_t *thread, void *(*stage)(void *), struct pipeline *p)
{
    int number = pthread_create(thread, NULL, stage, p);
    if (number != 0)
        die("cannot start a thread: %s", strerror(number));
}

static void run_stages(struct pipeline *p)
{
    int n = p->options->decode_threads;
    pthread_t list, write, watch, *decode = xcalloc((size_t)n, sizeof *decode);
    start(&watch, watch_stage, p);
    start(&write, write_stage, p);
    for (int i = 0; i < n; i++)
        start(&decode[i], decode_stage, p);
    start(&list, list_stage, p);
    network_stage(p);
    pthread_join(write, NULL);
    pthread_join(list, NULL);
    for (int i = 0; i < n; i++)
        pthread_join(decode[i], NULL);
    pthread_mutex_lock(&p->mutex);
    wake_all(p); /* ends watch_stage */
    pthread_mutex_unlock(&p->mutex);
    pthread_join(watch, NULL);
    free(decode);
}

static int64_t count_slots(const struct encode_options *o)
{
    return o->batch_size + 2 * o->decode_threads;
}

int64_t encode_memory(const struct encoder *encoder, const struct encode_options *options)
{
    int64_t inputs = (int64_t)(encoder->image_floats + encoder->square_floats);
    int64_t outputs = (int64_t)(encoder->moments_floats + encoder->embed_floats);
    int64_t batch = options->batch_size;
    return (int64_t)sizeof(float) *
           ((count_slots(options) + batch) * inputs + BATCHES * batch * outputs);
}

static void allocate(struct pipeline *p)
{
    const struct encoder *en = p->encoder;
    size_t batch = (size_t)p->options->batch_size;
    p->slot_count = count_slots(p->options);
    p->slots = xcalloc((size_t)p->slot_count, sizeof *p->slots);
    for (int64_t i = 0; i < p->slot_count; i++) {
        p->slots[i].image = xmalloc(en->image_floats * sizeof(float));
        p->slots[i].square = xmalloc(en->square_floats * sizeof(float));
    }
    for (int i = 0; i < BATCHES; i++) {
        p->batches[i].items = xcalloc(batch, sizeof *p->batches[i].items);
        p->batches[i].moments = xmalloc(batch * en->moments_floats * sizeof(float));
        p->batches[i].embeds = xmalloc(batch * en->embed_floats * sizeof(float));
    }
    p->images = xmalloc(batch * en->image_floats * sizeof(float));
    p->squares = xmalloc(batch * en->square_floats * sizeof(float));
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->room, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->ready, NULL);
    pthread_cond_init(&p->full, NULL);
}

static void release(struct pipeline *p)
{
    for (int64_t i = 0; i < p->slot_count; i++) {
        free(p->slots[i].path);
        free(p->slots[i].image);
        free(p->slots[i].square);
    }
    free(p->slots);
    for (int i = 0; i < BATCHES; i++) {
        clear_batch(&p->batches[i]);
        free(p->batches[i].items);
        free(p->batches[i].moments);
        free(p->batches[i].embeds);
    }
    free(p->images);
    free(p->squares);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->room);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->full);
}

int encode_run(const struct encoder *encoder, struct path_source *paths, struct shard_writer *store,
               const struct encode_options *options, struct encode_counts *counts, struct error *e)
{
    struct pipeline p = {.encoder = encoder, .options = options, .paths = paths, .store = store};
    *counts = p.counts;
    if (pipe(p.wake) != 0)
        return error_errno(e, "cannot make a pipe");
    allocate(&p);
    p.expected = path_source_count(paths);
    p.complaints = complaints_new();
    run_stages(&p);
    complaints_end(p.complaints, options->rejects ? "" : " (--rejects FILE lists all)");
    int status = p.failed ? -1 : 0;
    if (!p.failed && !p.stop && p.counts.listed + p.counts.other_part > 0)
        status = shard_writer_finish(store, &p.error);
    if (status != 0 && e)
        *e = p.error;
    p.counts.interrupted = p.stop;
    *counts = p.counts;
    release(&p);
    close(p.wake[0]);
    close(p.wake[1]);
    return status;
}
