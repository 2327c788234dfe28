#include "tests/support/thread_ranks.h"

#include <string.h>

#include "common/base/message.h"

static void gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    struct thread_ranks *t = c->state;
    t->values[c->rank] = own;
    pthread_barrier_wait(&t->barrier);
    for (int r = 0; r < t->count; r++)
        memcpy((char *)all + (size_t)r * bytes, t->values[r], bytes);
    pthread_barrier_wait(&t->barrier);
}

static void broadcast(struct collective *c, int root, void *data, size_t bytes)
{
    struct thread_ranks *t = c->state;
    t->values[c->rank] = data;
    pthread_barrier_wait(&t->barrier);
    if (c->rank != root)
        memcpy(data, t->values[root], bytes);
    pthread_barrier_wait(&t->barrier);
}

static void sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    struct thread_ranks *t = c->state;
    int64_t begin = a->bounds[c->shard], end = a->bounds[c->shard + 1];
    t->values[c->rank] = a->own;
    pthread_barrier_wait(&t->barrier);
    for (int r = 0; r < t->count; r++)
        for (int64_t i = begin; i < end; i++) {
            float x = ((const float *)t->values[r])[i], *sum = &a->total[i - begin];
            *sum = a->first && r == 0 ? x : *sum + x;
        }
    pthread_barrier_wait(&t->barrier);
}

static void share_slices(struct collective *c, struct device *d, const struct share_slices_args *a)
{
    struct thread_ranks *t = c->state;
    t->values[c->rank] = a->whole;
    pthread_barrier_wait(&t->barrier);
    for (int r = 0; r < t->count; r++) {
        size_t at = (size_t)a->bounds[r] * a->element;
        if (r != c->rank)
            memcpy((char *)a->whole + at, (const char *)t->values[r] + at,
                   (size_t)a->bounds[r + 1] * a->element - at);
    }
    pthread_barrier_wait(&t->barrier);
}

static void barrier(struct collective *c)
{
    struct thread_ranks *t = c->state;
    pthread_barrier_wait(&t->barrier);
}

void thread_ranks_open(struct thread_ranks *t, int count)
{
    static const struct collective_functions functions = {
        .name = "threads",
        .gather = gather,
        .broadcast = broadcast,
        .sum_slices = sum_slices,
        .share_slices = share_slices,
        .barrier = barrier,
    };
    struct error e;
    CHECK(count <= THREAD_RANKS_MAX);
    t->count = count;
    CHECK(pthread_barrier_init(&t->barrier, NULL, (unsigned)count) == 0);
    for (int i = 0; i < count; i++) {
        t->collectives[i] = (struct collective){.functions = &functions,
                                                .rank = i,
                                                .size = count,
                                                .shard = i,
                                                .shards = count,
                                                .state = t};
        if (device_open(&t->devices[i], "cpu", &e) != 0)
            die("%s", e.text);
    }
}

void thread_ranks_close(struct thread_ranks *t)
{
    for (int i = 0; i < t->count; i++)
        device_close(t->devices[i]);
    pthread_barrier_destroy(&t->barrier);
}

struct call {
    void (*run)(void *arg);
    void *arg;
};

static void *run_call(void *arg)
{
    const struct call *call = arg;
    call->run(call->arg);
    return NULL;
}

void thread_ranks_run(const struct thread_ranks *t, void (*run)(void *arg), void *const *args)
{
    pthread_t threads[THREAD_RANKS_MAX];
    struct call calls[THREAD_RANKS_MAX];
    for (int i = 0; i < t->count; i++) {
        calls[i] = (struct call){.run = run, .arg = args[i]};
        if (i > 0)
            CHECK(pthread_create(&threads[i], NULL, run_call, &calls[i]) == 0);
    }
    run_call(&calls[0]);
    for (int i = 1; i < t->count; i++)
        pthread_join(threads[i], NULL);
}
