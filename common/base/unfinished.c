#include "common/base/unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define FILES_MAX 16
#define TRIES_MAX 10000000 /* a process forked while the lock was held would wait forever */

static const int fatal[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGALRM,
                            SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
#define FATALS (sizeof fatal / sizeof *fatal)

/* The lock is held only while signals are blocked, so that a handler never waits for its own
 * thread. */
static atomic_flag locked = ATOMIC_FLAG_INIT;
static struct {
    const char *path; /* NULL: none */
    pid_t owner;      /* not a child that was forked later */
} files[FILES_MAX];
static bool prepared;

static void lock(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
    for (int i = 0; i < TRIES_MAX && atomic_flag_test_and_set(&locked); i++)
        ;
}

static void unlock(const sigset_t *before)
{
    atomic_flag_clear(&locked);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

void unfinished_remove(void)
{
    sigset_t before;
    int number = errno;
    lock(&before);
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].path && files[i].owner == getpid()) {
            unlink(files[i].path);
            files[i].path = NULL;
        }
    unlock(&before);
    errno = number;
}

static void on_fatal(int number)
{
    sigset_t this;
    unfinished_remove();
    signal(number, SIG_DFL);
    sigemptyset(&this);
    sigaddset(&this, number);
    pthread_sigmask(SIG_UNBLOCK, &this, NULL);
    raise(number);
}

/* What the program catches or ignores itself stays so. */
static void prepare(void)
{
    prepared = true;
    atexit(unfinished_remove);
    for (size_t i = 0; i < FATALS; i++) {
        struct sigaction action;
        if (sigaction(fatal[i], NULL, &action) != 0 || action.sa_handler != SIG_DFL)
            continue;
        action = (struct sigaction){.sa_handler = on_fatal};
        sigfillset(&action.sa_mask);
        sigaction(fatal[i], &action, NULL);
    }
}

int unfinished_create(char *path)
{
    sigset_t before;
    lock(&before);
    if (!prepared)
        prepare();
    int fd = mkostemp(path, O_CLOEXEC), number = errno;
    for (int i = 0; i < FILES_MAX && fd >= 0; i++)
        if (!files[i].path) {
            files[i].path = path;
            files[i].owner = getpid();
            break;
        }
    unlock(&before);
    errno = number;
    return fd;
}

void unfinished_forget(const char *path)
{
    sigset_t before;
    int number = errno;
    lock(&before);
    for (int i = 0; i < FILES_MAX; i++)
        if (files[i].path == path)
            files[i].path = NULL;
    unlock(&before);
    errno = number;
}
