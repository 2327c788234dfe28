#include "common/train/watchdog.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/message.h"
#include "common/base/progress.h"

#define LIMIT      600.0
#define STOP_LIMIT 10.0 /* after a stop signal */
#define TIMES      5    /* the longest wait so far */
#define TICK       0.25
#define GAP        5.0 /* a longer tick: this process was stopped */

static struct watched {
    struct watchdog_options options;
    _Atomic(const char *) what;
    _Atomic double since; /* seconds_now when the wait began; 0: none */
    _Atomic double longest;
    atomic_bool patient, stopping;
} watched;

static double configured_limit(void)
{
    const char *text = getenv("CCLD_WATCHDOG");
    if (!text || !*text)
        return LIMIT;
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !(seconds >= 0 && seconds <= 1e9))
        die("CCLD_WATCHDOG: '%s' is not a number of seconds", text);
    return seconds > 0 ? seconds : INFINITY;
}

double watchdog_limit(double longest_wait, bool stopping)
{
    double limit = configured_limit();
    if (stopping)
        limit = fmin(limit, STOP_LIMIT);
    return fmax(limit, TIMES * longest_wait);
}

void watchdog_enter(const char *what)
{
    atomic_store(&watched.what, what);
    atomic_store(&watched.since, seconds_now());
}

void watchdog_leave(void)
{
    double waited = seconds_now() - atomic_exchange(&watched.since, 0);
    if (waited > atomic_load(&watched.longest))
        atomic_store(&watched.longest, waited);
}

void watchdog_patient(bool on)
{
    atomic_store(&watched.patient, on);
}

void watchdog_stopping(void)
{
    atomic_store(&watched.stopping, true);
}

static void *watch(void *arg)
{
    double forgiven = seconds_now(), last = forgiven, stopped = 0;
    for (;;) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(TICK * 1e9)}, NULL);
        double now = seconds_now(), since = atomic_load(&watched.since);
        if (now - last > GAP || atomic_load(&watched.patient))
            forgiven = now;
        last = now;
        bool stopping = __atomic_load_n(watched.options.stop, __ATOMIC_RELAXED) ||
                        atomic_load(&watched.stopping);
        if (stopping && stopped == 0)
            stopped = forgiven = now;
        double waited = now - fmax(since, forgiven);
        if (since > 0 && waited > watchdog_limit(atomic_load(&watched.longest), stopping) +
                                      watched.options.delay)
            watched.options.end(atomic_load(&watched.what), waited);
    }
    return NULL;
}

void watchdog_start(const struct watchdog_options *o)
{
    pthread_t thread;
    sigset_t all, before;
    watched.options = *o;
    watchdog_limit(0, false); /* a wrong value is reported now */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are for the main thread */
    if (pthread_create(&thread, NULL, watch, NULL) != 0)
        die("cannot start the watchdog's thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
}
