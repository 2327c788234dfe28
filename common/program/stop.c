#include "common/program/stop.h"

#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "common/base/unfinished.h"

static volatile sig_atomic_t stop;
static atomic_flag counted = ATOMIC_FLAG_INIT;

void stop_not_by_writing(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

void stop_signals(sigset_t *set)
{
    struct sigaction hangup;
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGXCPU);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN)
        sigaddset(set, SIGHUP);
}

bool stop_at_once(int signal)
{
    return signal != SIGHUP && signal != SIGXCPU && atomic_flag_test_and_set(&counted);
}

static void on_signal(int signal)
{
    if (stop_at_once(signal)) {
        unfinished_remove();
        _exit(128 + signal);
    }
    if (!stop)
        __atomic_store_n(&stop, signal, __ATOMIC_RELAXED);
}

void stop_catch(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigset_t signals;
    stop_signals(&signals);
    for (int number = 1; number < SIGRTMIN; number++)
        if (sigismember(&signals, number) == 1)
            sigaction(number, &action, NULL);
}

const volatile sig_atomic_t *stop_caught(void)
{
    return &stop;
}
