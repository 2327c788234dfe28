#include "common/data/read_ahead.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"

#define THREADS_DEFAULT 2

/* Micro-batch i is in slot i modulo the number of slots. */
struct slot {
    void *memory;
    bool ready;
    int status; /* of its fill */
    struct error error;
};

struct read_ahead {
    const struct read_ahead_functions *functions;
    void *context;
    const struct order *order;
    struct batch_reader_options options;
    pthread_t *threads;
    int thread_count;

    struct slot *slots;
    int64_t slot_count;
    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t freed, filled;
    int64_t claimed;  /* micro-batches that threads have begun */
    int64_t taken;    /* micro-batches returned to the caller */
    int64_t released; /* those the caller has finished with: taken, or one less */
    bool closing;
    double waited;
};

static int64_t effective_batch(const struct batch_reader_options *o)
{
    return o->batch * o->accumulate * o->ranks;
}

static struct batch_place locate(const struct read_ahead *r, int64_t number)
{
    const struct batch_reader_options *o = &r->options;
    int64_t steps = number / o->accumulate;
    struct batch_place p = {
        .step = o->first_step + steps,
        .micro_batch = number % o->accumulate,
        .at = order_advance(r->order, o->start, steps, effective_batch(o)),
    };
    p.first = p.at.place + (p.micro_batch * o->ranks + o->rank) * o->batch;
    return p;
}

static void *read_in_thread(void *arg)
{
    struct read_ahead *r = arg;
    pthread_mutex_lock(&r->mutex);
    for (;;) {
        while (!r->closing && r->claimed >= r->released + r->slot_count)
            pthread_cond_wait(&r->freed, &r->mutex);
        if (r->closing)
            break;
        int64_t number = r->claimed++;
        struct slot *slot = &r->slots[number % r->slot_count];
        pthread_mutex_unlock(&r->mutex);
        struct batch_place at = locate(r, number);
        slot->status = r->functions->fill(r->context, slot->memory, &at, &slot->error);
        pthread_mutex_lock(&r->mutex);
        slot->ready = true;
        pthread_cond_broadcast(&r->filled);
    }
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

/* The threads block signals, which the training thread handles. */
static int start_threads(struct read_ahead *r, int count, struct error *e)
{
    sigset_t all, before;
    sigfillset(&all);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    r->threads = xcalloc((size_t)count, sizeof *r->threads);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int number = 0; /* an errno */
    for (int i = 0; i < count && number == 0; i++) {
        number = pthread_create(&r->threads[i], NULL, read_in_thread, r);
        r->thread_count += number == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return number != 0 ? error_set(e, "cannot start a thread: %s", strerror(number)) : 0;
}

static int threads_of(const struct batch_reader_options *o)
{
    return o->threads ? o->threads : THREADS_DEFAULT;
}

int64_t read_ahead_slots(const struct batch_reader_options *o)
{
    return (o->ahead ? o->ahead : 2 * threads_of(o)) + 1; /* one is the caller's */
}

int read_ahead_open(struct read_ahead **out, const struct read_ahead_functions *functions,
                    void *context, const struct order *order, const struct batch_reader_options *o,
                    struct error *e)
{
    CHECK(o->batch > 0 && o->accumulate > 0 && o->rank >= 0 && o->rank < o->ranks);
    CHECK(o->threads >= 0 && o->ahead >= 0 && o->start.epoch >= 0 && o->start.place >= 0);
    if (effective_batch(o) > order_training_count(order))
        return error_set(e, "%" PRId64 " training record%s not fill a batch of %" PRId64,
                         order_training_count(order),
                         order_training_count(order) == 1 ? " does" : "s do", effective_batch(o));
    struct read_ahead *r = xcalloc(1, sizeof *r);
    r->functions = functions;
    r->context = context;
    r->order = order;
    r->options = *o;
    r->slot_count = read_ahead_slots(o);
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->freed, NULL);
    pthread_cond_init(&r->filled, NULL);
    r->slots = xcalloc((size_t)r->slot_count, sizeof *r->slots);
    for (int64_t i = 0; i < r->slot_count; i++)
        r->slots[i].memory = functions->slot_new(context);
    if (start_threads(r, threads_of(o), e) != 0) {
        read_ahead_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void read_ahead_close(struct read_ahead *r)
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
    for (int64_t i = 0; i < r->slot_count; i++)
        r->functions->slot_free(r->slots[i].memory);
    free(r->slots);
    pthread_cond_destroy(&r->filled);
    pthread_cond_destroy(&r->freed);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

int read_ahead_next(struct read_ahead *r, void **memory, struct error *e)
{
    pthread_mutex_lock(&r->mutex);
    if (r->released < r->taken) { /* the caller has finished with the previous one */
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
    if (slot->status == 0)
        r->taken++;
    pthread_mutex_unlock(&r->mutex);
    if (slot->status != 0)
        return error_set(e, "%s", slot->error.text);
    *memory = slot->memory;
    return 0;
}

double read_ahead_waited(const struct read_ahead *r)
{
    return r->waited; /* written only by the thread that calls read_ahead_next */
}
