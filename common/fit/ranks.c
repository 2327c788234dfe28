#include "common/fit/ranks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/signal_name.h"
#include "common/base/threads.h"
#include "common/fit/rank_process.h"
#include "common/program/stop.h"
#include "common/train/watchdog.h"

#define GRACE 1.0 /* seconds for others to fail by themselves before they are killed */
#define GAP   5.0 /* seconds between two looks at the ranks: the supervisor was stopped itself */

struct process {
    pid_t pid;       /* 0: has ended */
    int code;        /* of its exit; -1: none yet, or killed */
    int said;        /* file with what it said while silent; -1: none */
    bool stopped;    /* by SIGSTOP, say */
    double ended_at; /* when it ended or was stopped */
};

struct supervisor {
    struct process ranks[RANKS_MAX];
    int count;
    struct shared_room *room;
    volatile sig_atomic_t *stop; /* shared */
    bool patient;                /* see struct ranks */
    double forgiven;             /* waits count from here */
    double looked;               /* when the ranks were last looked at */
};

static void kill_all(struct supervisor *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid > 0)
            kill(s->ranks[i].pid, SIGKILL);
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid > 0)
            waitpid(s->ranks[i].pid, NULL, 0);
}

/* Prints what a silent rank said. */
static void pass_on_rank(const struct supervisor *s, int rank)
{
    char who[32];
    snprintf(who, sizeof who, "rank %d", rank);
    pass_on(s->ranks[rank].said, who);
}

static bool is_alive(const struct supervisor *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid > 0)
            return true;
    return false;
}

/* Takes note of ranks that have ended or stopped. Returns one that was killed by a signal, or -1.
 */
static int reap(struct supervisor *s, int *signal)
{
    int status;
    for (int i = 0; i < s->count; i++) {
        struct process *p = &s->ranks[i];
        if (p->pid <= 0 || waitpid(p->pid, &status, WNOHANG | WUNTRACED | WCONTINUED) != p->pid)
            continue;
        p->stopped = WIFSTOPPED(status);
        p->ended_at = seconds_now();
        if (p->stopped || WIFCONTINUED(status))
            continue;
        if (WIFSIGNALED(status)) {
            *signal = WTERMSIG(status);
            return i;
        }
        p->pid = 0;
        p->code = WEXITSTATUS(status);
    }
    return -1;
}

static int failed_rank(const struct supervisor *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid == 0 && s->ranks[i].code > 0)
            return i;
    return -1;
}

_Noreturn static void end_killed(struct supervisor *s, int rank, int signal)
{
    int pid = (int)s->ranks[rank].pid;
    s->ranks[rank].pid = 0;
    pass_on_rank(s, rank);
    kill_all(s);
    warn("rank %d (process %d) was killed by SIG%s", rank, pid, signal_name(signal));
    exit(1);
}

/* The first rank says itself why it fails; others that fail for the same reason keep silent. */
_Noreturn static void end_failed(struct supervisor *s)
{
    int rank = failed_rank(s), ignored;
    double begin = seconds_now();
    while (is_alive(s) && s->ranks[0].code <= 0 && seconds_now() - begin < GRACE) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        reap(s, &ignored);
    }
    int code = s->ranks[s->ranks[0].code > 0 ? 0 : rank].code;
    if (s->ranks[0].code <= 0)
        pass_on_rank(s, rank);
    kill_all(s);
    exit(code);
}

/* How long rank i has made others wait or waits for them. After a stop, one that has ended waits
 * for the others' end. */
static double stuck_for(const struct supervisor *s, int i)
{
    const struct process *p = &s->ranks[i];
    if (p->stopped || (p->pid == 0 && *s->stop))
        return seconds_now() - (p->ended_at > s->forgiven ? p->ended_at : s->forgiven);
    return p->pid == 0 ? 0 : shared_room_waited(s->room, i, s->forgiven);
}

static double longest_stuck(struct supervisor *s)
{
    double now = seconds_now(), longest = 0;
    if (now - s->looked > GAP)
        s->forgiven = now;
    s->looked = now;
    for (int i = 0; i < s->count; i++)
        if (stuck_for(s, i) > longest)
            longest = stuck_for(s, i);
    return longest;
}

_Noreturn static void end_hung(struct supervisor *s, double seconds)
{
    bool named = false;
    for (int i = 0; i < s->count; i++) {
        const struct process *p = &s->ranks[i];
        if (p->pid > 0 && (p->stopped || !shared_room_waits(s->room, i))) {
            named = true;
            warn("rank %d (process %d) %s for %.0f seconds: it is killed, the last checkpoint "
                 "stays",
                 i, (int)p->pid, p->stopped ? "has been stopped" : "does not answer", seconds);
        }
    }
    if (!named)
        warn("the ranks wait for one another for %.0f seconds: they are killed, the last "
             "checkpoint stays",
             seconds);
    kill_all(s);
    exit(1);
}

static void on_stop_signal(struct supervisor *s, int signal)
{
    if (stop_at_once(signal)) {
        kill_all(s);
        exit(128 + signal);
    }
    if (*s->stop)
        return;
    *s->stop = signal;
    s->forgiven = seconds_now();
}

_Noreturn static void supervise(struct supervisor *s, const sigset_t *signals)
{
    s->looked = seconds_now();
    while (is_alive(s)) {
        struct timespec second = {.tv_sec = 1};
        int number = sigtimedwait(signals, NULL, &second), killed_by;
        if (number > 0 && number != SIGCHLD)
            on_stop_signal(s, number);
        int killed = reap(s, &killed_by);
        if (killed >= 0)
            end_killed(s, killed, killed_by);
        if (failed_rank(s) >= 0)
            end_failed(s);
        double stuck = longest_stuck(s);
        if (!s->patient && is_alive(s) &&
            stuck > watchdog_limit(shared_room_longest_wait(s->room), *s->stop))
            end_hung(s, stuck);
    }
    shared_room_free(s->room);
    exit(0);
}

/* In the rank's process. */
static void become_rank(struct ranks *r, const struct supervisor *s, int rank, int threads,
                        pid_t parent, int spooled)
{
    sigset_t children;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_UNBLOCK, &children, NULL);
    if (spooled >= 0)
        open_spooled(spooled);
    *r = (struct ranks){.stop = s->stop, .report = -1};
    r->collective = collective_shared(s->room, rank);
    if (rank > 0) {
        r->report = dup(STDERR_FILENO);
        if (r->report < 0 || dup2(s->ranks[rank].said, STDERR_FILENO) < 0)
            _exit(1);
        message_set_verbosity(VERBOSITY_QUIET);
    }
    share_threads(threads, rank, s->count);
}

void ranks_start(struct ranks *r, int count, bool read_stdin)
{
    static struct supervisor s;
    sigset_t signals;
    CHECK(count >= 1 && count <= RANKS_MAX);
    int threads = threads_count(), spooled = -1;
    pid_t parent = getpid();
    if (read_stdin && !isatty(STDIN_FILENO))
        spooled = spool_stdin();
    watchdog_limit(0, false); /* a wrong $CCLD_WATCHDOG is reported now */
    threads_init(1);          /* no other thread while forking */
    s.count = count;
    s.patient = r->patient;
    s.room = shared_room_new(count);
    s.stop = mmap(NULL, sizeof *s.stop, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.stop == MAP_FAILED)
        die("cannot share memory between %d ranks: %s", count, strerror(errno));
    stop_signals(&signals);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < count; i++) {
        struct process *p = &s.ranks[i];
        *p = (struct process){.code = -1, .said = i > 0 ? memory_file("said") : -1};
        p->pid = fork();
        if (p->pid < 0) {
            p->pid = 0;
            kill_all(&s);
            die("cannot start rank %d: %s", i, strerror(errno));
        }
        if (p->pid == 0) {
            become_rank(r, &s, i, threads, parent, spooled);
            return;
        }
    }
    supervise(&s, &signals);
}

void ranks_ready(struct ranks *r, const char *program)
{
    if (r->report < 0)
        return;
    int rank = r->collective->rank;
    message_init(r->launched ? xasprintf("%s: rank %d (%s)", program, rank, r->host)
                             : xasprintf("%s: rank %d", program, rank));
    if (ftruncate(STDERR_FILENO, 0) != 0) /* the first rank has said it */
        warn("cannot truncate a file in memory: %s", strerror(errno));
    dup2(r->report, STDERR_FILENO);
    close(r->report);
    r->report = -1;
}
