#include "common/fit/launched.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/base/write_all.h"
#include "common/fit/peers.h"
#include "common/fit/rank_process.h"
#include "common/train/collective_mpi.h"
#include "common/train/watchdog.h"

#define GRACE 2   /* seconds for the first rank to fail as well, and for the launcher to end all */
#define DELAY 1.0 /* seconds for the first rank to report that it waits */

/* This rank. Until ranks_ready, ranks->report says that it is silent: messages go to a file in
 * memory. */
static struct {
    const struct ranks *ranks;
    int rank;
} self;

static const char *who(void)
{
    static char text[96];
    snprintf(text, sizeof text, "rank %d (%s)", self.rank, self.ranks->host);
    return text;
}

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

/* 0: there is no launcher; -1: one that does not say. */
static int count_tasks(void)
{
    int tasks = number_of("OMPI_COMM_WORLD_SIZE", 0);
    if (tasks <= 0)
        tasks = number_of("PMI_SIZE", 0);
    if (tasks <= 0 && getenv("SLURM_PROCID"))
        tasks = number_of("SLURM_STEP_NUM_TASKS", 0); /* not set in a batch script itself */
    return tasks > 0 ? tasks : getenv("PMIX_RANK") ? -1 : 0;
}

static int launcher_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (number_of(names[i], -1) >= 0)
            return number_of(names[i], -1);
    return 0;
}

static void find_host(char host[64])
{
    if (gethostname(host, 63) != 0)
        strcpy(host, "unknown host");
    host[63] = '\0';
    host[strcspn(host, ".")] = '\0';
}

static void speak(void)
{
    int said = dup(STDERR_FILENO);
    dup2(self.ranks->report, STDERR_FILENO);
    pass_on(said, who());
    close(said);
}

/* At exit. */
static void speak_at_last(void)
{
    if (self.ranks->report < 0)
        return;
    sleep(GRACE);
    speak();
}

static void fall_silent(struct ranks *r)
{
    r->report = dup(STDERR_FILENO);
    int said = memory_file("said");
    if (r->report < 0 || dup2(said, STDERR_FILENO) < 0)
        die("cannot redirect standard error: %s", strerror(errno));
    close(said);
    message_set_verbosity(VERBOSITY_QUIET);
    atexit(speak_at_last);
}

static void find_neighbors(struct ranks *r)
{
    struct collective *c = r->collective;
    char(*hosts)[sizeof r->host] = xcalloc((size_t)c->size, sizeof *hosts);
    int first = 1;
    collective_gather(c, r->host, hosts, sizeof r->host);
    while (first < c->size && strcmp(hosts[first], hosts[0]) == 0)
        first++;
    r->host_ranks = c->size % first == 0 ? first : 0;
    for (int i = 0; i < c->size; i++) {
        r->host_rank += i < c->rank && strcmp(hosts[i], r->host) == 0;
        bool new = i > 0 && strcmp(hosts[i], hosts[i - 1]) != 0;
        if (new != (i > 0 && i % first == 0))
            r->host_ranks = 0;
    }
    free(hosts);
}

bool launched_join(struct ranks *r)
{
    struct error e;
    int tasks = count_tasks();
    if (tasks == 0 || tasks == 1)
        return false;
    *r = (struct ranks){.launched = true, .report = -1};
    self.ranks = r;
    self.rank = launcher_rank();
    find_host(r->host);
    if (self.rank > 0)
        fall_silent(r);
    if (collective_mpi_open(&r->collective, tasks, &e) != 0)
        die("cannot join the ranks that were started together: %s", e.text);
    self.rank = r->collective->rank;
    find_neighbors(r);
    return true;
}

/* Ranks of a host that may run on the same cores share them; a launcher may have bound each to its
 * own. */
static void share_cores(const struct ranks *r)
{
    struct place {
        char host[64];
        cpu_set_t cores;
    } own = {0};
    struct collective *c = r->collective;
    struct place *all = xcalloc((size_t)c->size, sizeof *all);
    int before = 0, sharing = 0;
    memcpy(own.host, r->host, sizeof own.host);
    sched_getaffinity(0, sizeof own.cores, &own.cores);
    collective_gather(c, &own, all, sizeof own);
    for (int i = 0; i < c->size; i++) {
        bool same = memcmp(&all[i], &own, sizeof own) == 0;
        sharing += same;
        before += same && i < c->rank;
    }
    free(all);
    share_threads(threads_count(), before, sharing);
}

/* Sends what fd holds, or receives it. */
static void broadcast_file(struct collective *c, int fd, int64_t size)
{
    static char part[1 << 16];
    struct error e;
    for (int64_t at = 0; at < size;) {
        size_t n = size - at < (int64_t)sizeof part ? (size_t)(size - at) : sizeof part;
        if (c->rank == 0 && pread(fd, part, n, at) != (ssize_t)n)
            die("cannot read a file in memory: %s", strerror(errno));
        collective_broadcast(c, 0, part, n);
        if (c->rank > 0 && write_all(fd, part, n, &e) != 0)
            die("cannot keep standard input: %s", e.text);
        at += (int64_t)n;
    }
}

/* Launchers give standard input to the first rank, some to all. */
static void pass_on_stdin(struct collective *c)
{
    int64_t size = -1;
    int fd = -1;
    struct stat st;
    if (c->rank == 0 && !isatty(STDIN_FILENO)) {
        fd = spool_stdin();
        size = fstat(fd, &st) == 0 ? (int64_t)st.st_size : -1;
    } else if (c->rank > 0) {
        int nothing = open("/dev/null", O_RDONLY);
        dup2(nothing, STDIN_FILENO);
        close(nothing);
        fd = memory_file("stdin");
    }
    collective_broadcast(c, 0, &size, sizeof size);
    if (size < 0)
        return; /* a terminal, which the first rank refuses */
    broadcast_file(c, fd, size);
    open_spooled(fd);
}

/* The launcher ends the others. */
static void end_waiting(const char *what, double seconds)
{
    bool named = self.rank > 0 && self.ranks->report < 0; /* by ranks_ready */
    if (self.ranks->report >= 0)
        speak();
    warn("%s%swaited %.0f seconds for other ranks in %s: the run ends, the last checkpoint stays",
         named ? "" : who(), named ? "" : ": ", seconds, what);
    _exit(1);
}

static void end_with(int rank, int process, bool first)
{
    if (first && self.ranks->report < 0)
        warn("rank %d (%s, process %d) has ended: so does the run, the last checkpoint stays", rank,
             self.ranks->host, process);
    _exit(1);
}

void launched_start(struct ranks *r, const volatile sig_atomic_t *stop, bool read_stdin)
{
    watchdog_start(&(struct watchdog_options){
        .end = end_waiting, .stop = stop, .delay = self.rank > 0 ? DELAY : 0});
    r->stop = stop;
    peers_watch(r->collective, end_with);
    share_cores(r);
    if (read_stdin)
        pass_on_stdin(r->collective);
}

void launched_end(void)
{
    peers_expect_end();
}
