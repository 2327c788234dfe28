#include "tests/support/thread_ranks.h"

#include "common/base/message.h"

/* Adds value i of all ranks and returns the sum to all. */
#define SUM_OVER_RANKS(type, t, i)                                                                 \
    do {                                                                                           \
        type sum = 0;                                                                              \
        for (int r = 0; r < THREAD_RANKS; r++)                                                     \
            sum += ((type *)(t)->values[r])[i];                                                    \
        for (int r = 0; r < THREAD_RANKS; r++)                                                     \
            ((type *)(t)->values[r])[i] = sum;                                                     \
    } while (0)

static void allreduce(struct collective *c, struct device *d, float *x, int64_t count)
{
    struct thread_ranks *t = c->state;
    t->values[c->rank] = x;
    pthread_barrier_wait(&t->barrier);
    for (int64_t i = 0; c->rank == 0 && i < count; i++)
        SUM_OVER_RANKS(float, t, i);
    pthread_barrier_wait(&t->barrier);
}

static void allreduce_host(struct collective *c, double *x, int64_t count)
{
    struct thread_ranks *t = c->state;
    t->values[c->rank] = x;
    pthread_barrier_wait(&t->barrier);
    for (int64_t i = 0; c->rank == 0 && i < count; i++)
        SUM_OVER_RANKS(double, t, i);
    pthread_barrier_wait(&t->barrier);
}

void thread_ranks_open(struct thread_ranks *t)
{
    static const struct collective_functions functions = {
        .name = "threads", .allreduce = allreduce, .allreduce_host = allreduce_host};
    struct error e;
    CHECK(pthread_barrier_init(&t->barrier, NULL, THREAD_RANKS) == 0);
    for (int i = 0; i < THREAD_RANKS; i++) {
        t->collectives[i] = (struct collective){
            .functions = &functions, .rank = i, .size = THREAD_RANKS, .state = t};
        if (device_open(&t->devices[i], "cpu", &e) != 0)
            die("%s", e.text);
    }
}

void thread_ranks_close(struct thread_ranks *t)
{
    for (int i = 0; i < THREAD_RANKS; i++)
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

void thread_ranks_run(void (*run)(void *arg), void *const args[THREAD_RANKS])
{
    pthread_t threads[THREAD_RANKS];
    struct call calls[THREAD_RANKS];
    for (int i = 0; i < THREAD_RANKS; i++) {
        calls[i] = (struct call){.run = run, .arg = args[i]};
        if (i > 0)
            CHECK(pthread_create(&threads[i], NULL, run_call, &calls[i]) == 0);
    }
    run_call(&calls[0]);
    for (int i = 1; i < THREAD_RANKS; i++)
        pthread_join(threads[i], NULL);
}
