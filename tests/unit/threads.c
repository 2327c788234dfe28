#include "common/base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/support/tap.h"

#define MAX_WORKERS 64

struct job {
    int64_t n, grain;
    atomic_int *visits;           /* per index */
    atomic_int busy[MAX_WORKERS]; /* workers inside a chunk */
    atomic_int faults, chunks;
};

static void visit(void *arg, int64_t begin, int64_t end, int worker)
{
    struct job *job = arg;
    if (worker < 0 || worker >= threads_count() || worker >= MAX_WORKERS) {
        job->faults++;
        return;
    }
    if (atomic_fetch_add(&job->busy[worker], 1) != 0)
        job->faults++; /* two workers share a number */
    if (begin % job->grain || end - begin > job->grain ||
        (end - begin < job->grain && end != job->n))
        job->faults++;
    for (int64_t i = begin; i < end; i++)
        job->visits[i]++;
    job->chunks++;
    atomic_fetch_sub(&job->busy[worker], 1);
}

static int run(int64_t n, int64_t grain)
{
    struct job job = {.n = n, .grain = grain, .visits = calloc((size_t)n + 1, sizeof(atomic_int))};
    parallel_for(n, grain, visit, &job);
    int wrong = job.faults;
    for (int64_t i = 0; i < n; i++)
        wrong += job.visits[i] != 1;
    wrong += job.chunks != (n + grain - 1) / grain;
    free(job.visits);
    return wrong;
}

static int run_many(void)
{
    static const int64_t counts[] = {0, 1, 2, 7, 64, 1000};
    int wrong = 0;
    for (int round = 0; round < 200; round++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (int64_t grain = 1; grain < 40; grain += 13)
                wrong += run(counts[i], grain);
    return wrong;
}

struct nest {
    atomic_int sum, faults;
};

static void inner(void *arg, int64_t begin, int64_t end, int worker)
{
    int *seen = arg;
    if (*seen != worker)
        *seen = -1;
    for (int64_t i = begin; i < end && *seen >= 0; i++)
        ;
}

static void outer(void *arg, int64_t begin, int64_t end, int worker)
{
    struct nest *nest = arg;
    int seen = worker;
    parallel_for(100, 3, inner, &seen);
    if (seen != worker)
        nest->faults++;
    nest->sum += (int)(end - begin);
}

static void test_nested(void)
{
    struct nest nest = {0};
    for (int i = 0; i < 100; i++)
        parallel_for(50, 1, outer, &nest);
    tap_ok(nest.sum == 5000 && nest.faults == 0, "nested calls run in place with the same worker");
}

static void *caller(void *arg)
{
    *(int *)arg = run_many();
    return NULL;
}

static void test_several_callers(void)
{
    enum { CALLERS = 4 };
    pthread_t threads[CALLERS];
    int wrong[CALLERS], sum = 0;
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&threads[i], NULL, caller, &wrong[i]);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        sum += wrong[i];
    }
    tap_ok(sum == 0, "calls from several threads take turns");
}

static void nothing(void *arg, int64_t begin, int64_t end, int worker)
{
    atomic_int *calls = arg;
    (*calls)++;
}

/* Far enough apart for the helpers to fall asleep. */
static void test_sleeping(void)
{
    atomic_int calls = 0;
    for (int i = 0; i < 50; i++) {
        usleep(300);
        parallel_for(4, 1, nothing, &calls);
    }
    tap_ok(calls == 200, "sleeping helpers wake up");
}

static void test_fork(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(run_many() != 0);
    int status = -1;
    waitpid(child, &status, 0);
    tap_ok(child > 0 && status == 0, "a forked child has its own pool");
}

int main(void)
{
    message_init("threads");
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    tap_ok(threads_count() == CPU_COUNT(&set), "one thread per core by default");
    static const int counts[] = {1, 2, 3, 8, 2};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        threads_init(counts[i]);
        tap_ok(threads_count() == counts[i] && run_many() == 0,
               "%d threads: every index once, chunks cut by index, distinct workers", counts[i]);
    }
    test_nested();
    test_several_callers();
    test_sleeping();
    test_fork();
    threads_init(0);
    tap_ok(threads_count() == CPU_COUNT(&set), "0 restores one per core");
    return tap_done();
}
