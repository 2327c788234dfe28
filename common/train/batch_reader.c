#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/train/dataset.h"
#include "common/train/dataset_internal.h"

#define THREADS_DEFAULT 2

/* Memory of one micro-batch; micro-batch number i of the run lies in slot i modulo their number. */
struct slot {
    struct dataset_batch batch;
    float *moments, *embeds;
    uint64_t *samples;
    bool ready;
    int failed;
    struct error error;
};

struct batch_reader {
    struct dataset *dataset;
    struct batch_reader_options options;
    int64_t effective_batch;
    pthread_t *threads;
    int thread_count;

    struct slot *slots;
    int64_t slot_count;
    pthread_mutex_t mutex; /* of all that follows */
    pthread_cond_t freed, filled;
    int64_t claimed;  /* micro-batches that threads have taken on */
    int64_t taken;    /* handed out */
    int64_t released; /* the caller is done with: taken, or one less */
    bool closing;
    double waited;
};

static void locate(const struct batch_reader *r, int64_t number, struct dataset_batch *b)
{
    int64_t steps = number / r->options.accumulate;
    b->step = r->options.first_step + steps;
    b->micro_batch = number % r->options.accumulate;
    b->at = dataset_advance(r->dataset, r->options.start, steps, r->effective_batch);
}

static void fill(struct batch_reader *r, int64_t number, struct slot *slot,
                 struct shard_record *record)
{
    const struct batch_reader_options *o = &r->options;
    const struct shard_info *info = dataset_info(r->dataset);
    size_t moments = 2 * shard_latent_count(info), embed = (size_t)info->embed_size;
    locate(r, number, &slot->batch);
    int64_t first =
        slot->batch.at.place + (slot->batch.micro_batch * o->ranks + o->rank) * o->batch;
    slot->failed = 0;
    for (int64_t i = 0; i < o->batch && !slot->failed; i++) {
        int64_t at = dataset_record_at(r->dataset, o->seed, slot->batch.at.epoch, first + i);
        slot->samples[i] = (uint64_t)at;
        slot->failed = dataset_read(r->dataset, at, record, slot->moments + (size_t)i * moments,
                                    slot->embeds + (size_t)i * embed, &slot->error);
    }
}

static void *read_ahead(void *arg)
{
    struct batch_reader *r = arg;
    struct shard_record record;
    shard_record_init(&record);
    pthread_mutex_lock(&r->mutex);
    for (;;) {
        while (!r->closing && r->claimed >= r->released + r->slot_count)
            pthread_cond_wait(&r->freed, &r->mutex);
        if (r->closing)
            break;
        int64_t number = r->claimed++;
        struct slot *slot = &r->slots[number % r->slot_count];
        pthread_mutex_unlock(&r->mutex);
        fill(r, number, slot, &record);
        pthread_mutex_lock(&r->mutex);
        slot->ready = true;
        pthread_cond_broadcast(&r->filled);
    }
    pthread_mutex_unlock(&r->mutex);
    shard_record_release(&record);
    return NULL;
}

static void make_slots(struct batch_reader *r)
{
    const struct shard_info *info = dataset_info(r->dataset);
    size_t n = (size_t)r->options.batch;
    r->slots = xcalloc((size_t)r->slot_count, sizeof *r->slots);
    for (int64_t i = 0; i < r->slot_count; i++) {
        struct slot *s = &r->slots[i];
        s->moments = xmalloc(n * 2 * shard_latent_count(info) * sizeof *s->moments);
        s->embeds = xmalloc(n * (size_t)info->embed_size * sizeof *s->embeds);
        s->samples = xmalloc(n * sizeof *s->samples);
        s->batch.data = (struct training_batch){.n = r->options.batch,
                                                .height = info->latent_height,
                                                .width = info->latent_width,
                                                .moments = s->moments,
                                                .embeds = s->embeds,
                                                .samples = s->samples};
    }
}

/* Signals are for the thread that trains. */
static int start_threads(struct batch_reader *r, int count, struct error *e)
{
    sigset_t all, before;
    sigfillset(&all);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    r->threads = xcalloc((size_t)count, sizeof *r->threads);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    for (int i = 0; i < count && !failed; i++) {
        failed = pthread_create(&r->threads[i], NULL, read_ahead, r);
        r->thread_count += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? error_set(e, "cannot start a thread: %s", strerror(failed)) : 0;
}

int batch_reader_open(struct batch_reader **out, struct dataset *d,
                      const struct batch_reader_options *o, struct error *e)
{
    CHECK(o->batch > 0 && o->accumulate > 0 && o->rank >= 0 && o->rank < o->ranks);
    CHECK(o->threads >= 0 && o->ahead >= 0 && o->start.epoch >= 0 && o->start.place >= 0);
    int64_t effective = o->batch * o->accumulate * o->ranks;
    if (effective > dataset_training_count(d))
        return error_set(e, "%lld records to train on are less than one batch of %lld",
                         (long long)dataset_training_count(d), (long long)effective);
    struct batch_reader *r = xcalloc(1, sizeof *r);
    r->dataset = d;
    r->options = *o;
    r->effective_batch = effective;
    int threads = o->threads ? o->threads : THREADS_DEFAULT;
    r->slot_count = (o->ahead ? o->ahead : 2 * threads) + 1; /* one is in the caller's hands */
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->freed, NULL);
    pthread_cond_init(&r->filled, NULL);
    make_slots(r);
    if (start_threads(r, threads, e)) {
        batch_reader_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void batch_reader_close(struct batch_reader *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->mutex);
    r->closing = true;
    pthread_cond_broadcast(&r->freed);
    pthread_mutex_unlock(&r->mutex);
    for (int i = 0; i < r->thread_count; i++)
        pthread_join(r->threads[i], NULL);
    free(r->threads);
    for (int64_t i = 0; i < r->slot_count; i++) {
        free(r->slots[i].moments);
        free(r->slots[i].embeds);
        free(r->slots[i].samples);
    }
    free(r->slots);
    pthread_cond_destroy(&r->filled);
    pthread_cond_destroy(&r->freed);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

int batch_reader_next(struct batch_reader *r, const struct dataset_batch **b, struct error *e)
{
    pthread_mutex_lock(&r->mutex);
    if (r->released < r->taken) { /* the last one is no longer looked at */
        r->slots[r->released % r->slot_count].ready = false;
        r->released = r->taken;
        pthread_cond_broadcast(&r->freed);
    }
    struct slot *slot = &r->slots[r->taken % r->slot_count];
    if (!slot->ready) {
        double begin = seconds_now();
        while (!slot->ready)
            pthread_cond_wait(&r->filled, &r->mutex);
        r->waited += seconds_now() - begin;
    }
    if (!slot->failed)
        r->taken++;
    pthread_mutex_unlock(&r->mutex);
    if (slot->failed)
        return error_set(e, "%s", slot->error.text);
    *b = &slot->batch;
    return 0;
}

double batch_reader_waited(const struct batch_reader *r)
{
    return r->waited; /* written by the thread that calls batch_reader_next only */
}
