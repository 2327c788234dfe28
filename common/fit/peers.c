#include "common/fit/peers.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/message.h"

#define GRACE 1 /* seconds */

/* What a process number is unique in: a kernel since it was booted, and a namespace. */
struct identity {
    char boot[64], space[64];
    int process;
};

static struct {
    struct pollfd *polled;
    int *ranks, *processes;
    int count, own_rank;
    atomic_bool ending;
    void (*end)(int rank, int process, bool first);
} peers;

static struct identity identify(void)
{
    struct identity own = {.process = (int)getpid()};
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (!f || !fgets(own.boot, sizeof own.boot, f) ||
        readlink("/proc/self/ns/pid", own.space, sizeof own.space - 1) < 0)
        own.process = 0; /* unknown */
    if (f)
        fclose(f);
    return own;
}

static void *watch(void *arg)
{
    while (poll(peers.polled, (nfds_t)peers.count, -1) <= 0)
        ;
    sleep(GRACE);
    if (atomic_load(&peers.ending))
        return NULL;
    int ended = 0;
    while (peers.polled[ended].revents == 0)
        ended++;
    int lowest = peers.ranks[ended == 0 && peers.count > 1];
    bool first = peers.count == 1 || peers.own_rank < lowest;
    peers.end(peers.ranks[ended], peers.processes[ended], first);
    return NULL;
}

static void add_peer(int rank, int process)
{
    int fd = (int)syscall(SYS_pidfd_open, process, 0);
    if (fd < 0)
        return;
    peers.polled[peers.count] = (struct pollfd){.fd = fd, .events = POLLIN};
    peers.ranks[peers.count] = rank;
    peers.processes[peers.count++] = process;
}

static void start_thread(void)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are for the main thread */
    if (pthread_create(&thread, NULL, watch, NULL) != 0)
        die("cannot start a thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
}

void peers_watch(struct collective *c, void (*end)(int rank, int process, bool first))
{
    size_t size = (size_t)c->size;
    struct identity own = identify(), *all = xcalloc(size, sizeof *all);
    collective_gather(c, &own, all, sizeof own);
    peers.polled = xcalloc(size, sizeof *peers.polled);
    peers.ranks = xcalloc(size, sizeof *peers.ranks);
    peers.processes = xcalloc(size, sizeof *peers.processes);
    peers.own_rank = c->rank;
    peers.end = end;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank && own.process && all[r].process && strcmp(all[r].boot, own.boot) == 0 &&
            strcmp(all[r].space, own.space) == 0)
            add_peer(r, all[r].process);
    free(all);
    collective_barrier(c); /* none has ended before it is watched */
    if (peers.count > 0)
        start_thread();
}

void peers_expect_end(void)
{
    atomic_store(&peers.ending, true);
}
