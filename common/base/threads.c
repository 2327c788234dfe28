#include "common/base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/text.h"

#define SPIN_NANOSECONDS 40000
#define MAX_THREADS      1024

/* Incrementing `generation` publishes a job. Helpers join while it is open, take chunks by index
 * from `next`, and leave. `active` counts the helpers inside; the caller waits until it is zero, so
 * the job's fields are never read after parallel_for has returned. */
static struct {
    pthread_mutex_t turn;  /* one job at a time */
    pthread_mutex_t sleep; /* guards the two condition variables */
    pthread_cond_t work, done;
    pthread_t *threads; /* helpers: count - 1 of them */
    int count;          /* 0: not started */
    long spin;          /* nanoseconds to spin before sleeping; 0 when cores are oversubscribed */

    atomic_uint generation;
    atomic_bool quit;
    atomic_int sleepers; /* helpers asleep on `work` */
    atomic_bool waiting; /* the caller is asleep on `done` */
    atomic_int active;   /* helpers in the job, or checking whether it is open */
    atomic_bool open;    /* helpers may join */
    atomic_int_fast64_t next;
    int64_t n, grain;
    void (*f)(void *arg, int64_t begin, int64_t end, int worker);
    void *arg;
} pool = {
    .turn = PTHREAD_MUTEX_INITIALIZER,
    .sleep = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

/* The worker number plus one while inside a chunk, else 0. */
static _Thread_local int inside;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static long nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long)t.tv_sec * 1000000000L + t.tv_nsec;
}

static int available_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

static void run_chunks(int worker)
{
    int64_t n = pool.n, grain = pool.grain;
    inside = worker + 1;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&pool.next, grain, memory_order_relaxed);
        if (begin >= n)
            break;
        pool.f(pool.arg, begin, begin + grain < n ? begin + grain : n, worker);
    }
    inside = 0;
}

static void leave_job(void)
{
    if (atomic_fetch_sub(&pool.active, 1) == 1 && atomic_load(&pool.waiting)) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_signal(&pool.done);
        pthread_mutex_unlock(&pool.sleep);
    }
}

/* Waits until the generation differs from `seen` and returns it. */
static unsigned next_generation(unsigned seen)
{
    long start = 0;
    for (int i = 0; pool.spin > 0; i++) {
        unsigned g = atomic_load_explicit(&pool.generation, memory_order_acquire);
        if (g != seen)
            return g;
        relax();
        if (i % 32 == 31) {
            long now = nanoseconds();
            if (start == 0)
                start = now;
            else if (now - start > pool.spin)
                break;
        }
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.generation) == seen)
        pthread_cond_wait(&pool.work, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
    return atomic_load(&pool.generation);
}

struct helper {
    int worker;
    unsigned generation;
};

static void *helper_main(void *arg)
{
    struct helper helper = *(struct helper *)arg;
    free(arg);
    unsigned seen = helper.generation;
    for (;;) {
        seen = next_generation(seen);
        if (atomic_load(&pool.quit))
            return NULL;
        atomic_fetch_add(&pool.active, 1);
        if (atomic_load(&pool.open))
            run_chunks(helper.worker);
        leave_job();
    }
}

static void announce(void)
{
    atomic_fetch_add(&pool.generation, 1);
    if (atomic_load(&pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.sleep);
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.sleep);
    }
}

static void stop_helpers(void)
{
    if (pool.count > 1) {
        atomic_store(&pool.quit, true);
        announce();
        for (int i = 0; i < pool.count - 1; i++)
            pthread_join(pool.threads[i], NULL);
        atomic_store(&pool.quit, false);
    }
    free(pool.threads);
    pool.threads = NULL;
    pool.count = 0;
}

static void start_helpers(int n)
{
    int cores = available_cores();
    if (n <= 0)
        n = cores;
    if (n > MAX_THREADS)
        n = MAX_THREADS;
    pool.spin = n <= cores ? SPIN_NANOSECONDS : 0;
    pool.threads = n > 1 ? xcalloc((size_t)n - 1, sizeof *pool.threads) : NULL;
    pool.count = 1;
    unsigned generation = atomic_load(&pool.generation);
    for (int i = 1; i < n; i++) {
        struct helper *helper = xmalloc(sizeof *helper);
        *helper = (struct helper){.worker = i, .generation = generation};
        if (pthread_create(&pool.threads[i - 1], NULL, helper_main, helper) != 0) {
            free(helper);
            warn("cannot start more than %d thread%s", pool.count, plural(pool.count));
            break;
        }
        pool.count++;
    }
}

/* Threads do not survive fork(): the child starts without a pool. */
static void forget_helpers(void)
{
    pool.count = 0;
    pool.threads = NULL;
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.active, 0);
    pthread_mutex_init(&pool.turn, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
}

static void register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, forget_helpers);
}

static void start_if_needed(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    if (pool.count == 0)
        start_helpers(0);
}

void threads_init(int n)
{
    CHECK(!inside);
    pthread_mutex_lock(&pool.turn);
    start_if_needed();
    int wanted = n > 0 ? n : available_cores();
    if (wanted != pool.count) {
        stop_helpers();
        start_helpers(wanted);
    }
    pthread_mutex_unlock(&pool.turn);
}

int threads_count(void)
{
    if (inside) /* the pool cannot be resized now, and our caller may hold its lock */
        return pool.count;
    pthread_mutex_lock(&pool.turn);
    start_if_needed();
    int count = pool.count;
    pthread_mutex_unlock(&pool.turn);
    return count;
}

static void wait_for_helpers(void)
{
    long start = 0;
    for (int i = 0; atomic_load(&pool.active) > 0; i++) {
        relax();
        if (pool.spin > 0 && i % 32 != 31)
            continue;
        long now = nanoseconds();
        if (start == 0)
            start = now;
        if (now - start < pool.spin)
            continue;
        pthread_mutex_lock(&pool.sleep);
        atomic_store(&pool.waiting, true);
        while (atomic_load(&pool.active) > 0)
            pthread_cond_wait(&pool.done, &pool.sleep);
        atomic_store(&pool.waiting, false);
        pthread_mutex_unlock(&pool.sleep);
        return;
    }
}

void parallel_for(int64_t n, int64_t grain,
                  void (*f)(void *arg, int64_t begin, int64_t end, int worker), void *arg)
{
    if (n <= 0)
        return;
    if (grain < 1)
        grain = 1;
    if (inside) {
        for (int64_t i = 0; i < n; i += grain)
            f(arg, i, i + grain < n ? i + grain : n, inside - 1);
        return;
    }
    pthread_mutex_lock(&pool.turn);
    start_if_needed();
    pool.n = n;
    pool.grain = grain;
    pool.f = f;
    pool.arg = arg;
    atomic_store(&pool.next, 0);
    if (pool.count > 1 && n > grain) {
        atomic_store(&pool.open, true);
        announce();
        run_chunks(0);
        /* Each helper has either been counted in `active` by now or will see the job closed. */
        atomic_store(&pool.open, false);
        wait_for_helpers();
    } else {
        run_chunks(0);
    }
    pthread_mutex_unlock(&pool.turn);
}
