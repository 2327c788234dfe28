#include "common/encode/pipeline_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image.h"

#define WATCH_MILLISECONDS 100

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

void pipeline_fail(struct pipeline *p, const struct error *e)
{
    pthread_mutex_lock(&p->mutex);
    if (!p->failed) {
        p->failed = true;
        p->error = *e;
        wake_all(p);
    }
    pthread_mutex_unlock(&p->mutex);
}

void pipeline_put_counts(struct pipeline *p)
{
    const struct encode_counts *c = &p->counts;
    struct encode_state s = {.counts = *c, .expected = -1};
    if (!p->options->tally)
        return;
    if (p->expected >= 0) {
        int64_t ahead = p->expected - c->listed - c->other_part; /* divided about evenly */
        s.expected = c->listed + ahead / (p->options->parts > 1 ? p->options->parts : 1) -
                     c->skipped - c->repeated - c->duplicates;
    }
    encode_tally_put(p->options->tally, p->options->tally_part, &s);
}

void pipeline_leave_out(struct pipeline *p, int64_t *counter)
{
    pthread_mutex_lock(&p->mutex);
    (*counter)++;
    p->counts.listed--;
    pipeline_put_counts(p);
    pthread_mutex_unlock(&p->mutex);
}

static int write_reject(FILE *f, const struct encode_options *o, const char *path,
                        const char *reason)
{
    int written = o->rejects_reasons ? fprintf(f, "%s\t%s%c", path, reason, o->rejects_separator)
                                     : fprintf(f, "%s%c", path, o->rejects_separator);
    return written < 0 || fflush(f) != 0 ? -1 : 0;
}

static void reject(struct pipeline *p, const char *path, const char *reason, bool bad_latents)
{
    complain(p->complaints, reason, "cannot encode '%s': %s", path, reason);
    int number = 0;
    pthread_mutex_lock(&p->mutex);
    encode_count_failed(&p->counts, reason, 1);
    p->counts.bad_latents += bad_latents;
    FILE *f = p->options->rejects;
    if (f && write_reject(f, p->options, path, reason) != 0)
        number = errno;
    pipeline_put_counts(p);
    pthread_mutex_unlock(&p->mutex);
    if (number != 0) {
        struct error e;
        errno = number;
        error_errno(&e, "cannot write the rejects file");
        pipeline_fail(p, &e);
    }
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
    free(s->data);
    s->path = NULL;
    s->data = NULL;
    p->taken++;
    /* A file that failed before decoding may be taken before the decoders have skipped it. */
    p->decoding = p->decoding < p->taken ? p->taken : p->decoding;
    pthread_cond_signal(&p->room);
    pthread_mutex_unlock(&p->mutex);
}

static void count_truncated(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->counts.truncated++;
    pthread_mutex_unlock(&p->mutex);
}

/* Whether a file that can be read is left out because of its bytes. In input order, so that the
 * first of several is kept. */
static bool is_duplicate(struct pipeline *p, const struct slot *s)
{
    struct unique *u = p->options->unique;
    if (!u)
        return false;
    if (s->old.state == SHARD_PATH_CHANGED) {
        unique_replace(u, s->old.hashed ? s->old.hash : NULL, s->hash);
        return false;
    }
    if (s->status != PIPELINE_DUPLICATE && unique_claim(u, s->hash))
        return false;
    unique_leave_out(u, s->hash);
    note("'%s' is left out: an image with the same bytes is in the store", s->path);
    pthread_mutex_lock(&p->mutex);
    p->counts.duplicates++;
    pipeline_put_counts(p);
    pthread_mutex_unlock(&p->mutex);
    return true;
}

static void add_to_batch(struct pipeline *p, struct batch *b, struct slot *s)
{
    const struct encoder *en = p->encoder;
    size_t i = (size_t)b->n++;
    memcpy(p->images + i * en->image_floats, s->image, en->image_floats * sizeof *s->image);
    memcpy(p->squares + i * en->square_floats, s->square, en->square_floats * sizeof *s->square);
    memcpy(b->hashes[i], s->hash, sizeof s->hash);
    memcpy(b->thumbnails[i], s->thumbnail, sizeof s->thumbnail);
    b->items[i] = (struct shard_item){
        .path = s->path,
        .size = s->size,
        .mtime_ns = s->mtime_ns,
        .hash = b->hashes[i],
        .width = s->width,
        .height = s->height,
        .moments = b->moments + i * en->moments_floats,
        .embed = b->embeds + i * en->embed_floats,
        .thumbnail = en->thumbnail ? b->thumbnails[i] : NULL,
    };
    s->path = NULL;
}

static void collect(struct pipeline *p, struct batch *b)
{
    b->n = 0;
    for (struct slot *s; b->n < p->options->batch_size && (s = next_done(p)); free_slot(p, s)) {
        if (s->status == PIPELINE_DUPLICATE && !unique_has(p->options->unique, s->hash))
            s->status = pipeline_prepare(p, s); /* the record has been replaced meanwhile */
        if (s->status == READ_SYSTEM_FAILED) {
            error_prefix(&s->error, "cannot read '%s'", s->path);
            pipeline_fail(p, &s->error);
            break;
        }
        if (s->status < 0) {
            if (s->status == IMAGE_UNKNOWN && s->found)
                pipeline_leave_out(p, &p->counts.others);
            else
                reject(p, s->path, s->error.text, false);
            continue;
        }
        if (is_duplicate(p, s))
            continue;
        if (s->status == ENCODE_TRUNCATED)
            count_truncated(p);
        add_to_batch(p, b, s);
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
        pipeline_fail(p, &e);
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
        pipeline_fail(p, &e);
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
            pipeline_fail(p, &e);
            return NULL;
        }
        pthread_mutex_lock(&p->mutex);
        p->counts.encoded += b->n;
        clear_batch(b);
        p->written++;
        pipeline_put_counts(p);
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
        pipeline_put_counts(p); /* other processes progress as well */
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
        start(&decode[i], pipeline_decode_stage, p);
    start(&list, pipeline_list_stage, p);
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
        p->batches[i].hashes = xcalloc(batch, sizeof *p->batches[i].hashes);
        p->batches[i].moments = xmalloc(batch * en->moments_floats * sizeof(float));
        p->batches[i].embeds = xmalloc(batch * en->embed_floats * sizeof(float));
        p->batches[i].thumbnails = xmalloc(batch * sizeof *p->batches[i].thumbnails);
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
        free(p->slots[i].data);
        free(p->slots[i].image);
        free(p->slots[i].square);
    }
    free(p->slots);
    for (int i = 0; i < BATCHES; i++) {
        clear_batch(&p->batches[i]);
        free(p->batches[i].items);
        free(p->batches[i].hashes);
        free(p->batches[i].moments);
        free(p->batches[i].embeds);
        free(p->batches[i].thumbnails);
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
    struct pipeline p = {.encoder = encoder, .options = options, .store = store};
    *counts = p.counts;
    if (pipe(p.wake) != 0)
        return error_errno(e, "cannot make a pipe");
    allocate(&p);
    p.files = image_source_new(paths, false);
    p.expected = image_source_count(p.files);
    p.complaints = complaints_new();
    int64_t orphans = options->unique ? unique_orphans(options->unique) : 0;
    run_stages(&p);
    if (options->unique)
        p.counts.orphans = unique_orphans(options->unique) - orphans;
    complaints_end(p.complaints, options->rejects ? "" : " (--rejects FILE lists all)");
    int status = p.failed ? -1 : 0;
    if (!p.failed && !p.stop && p.counts.unread == 0 && p.counts.listed + p.counts.other_part > 0)
        status = shard_writer_finish(store, &p.error);
    if (status != 0 && e)
        *e = p.error;
    p.counts.interrupted = p.stop;
    *counts = p.counts;
    release(&p);
    image_source_free(p.files);
    close(p.wake[0]);
    close(p.wake[1]);
    return status;
}
