#include "common/fit/ranks.h"

#include <errno.h>
#include <fcntl.h>
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
#include "common/base/threads.h"
#include "common/base/write_all.h"

#define GRACE    1.0  /* seconds for others to fail by themselves before they are killed */
#define PATIENCE 10.0 /* seconds that a rank may take to answer a stop, at least */

struct process {
    pid_t pid;    /* 0: has ended */
    int code;     /* of its exit; -1: none yet, or killed */
    int said;     /* file with what it said while silent; -1: none */
    bool stopped; /* by SIGSTOP, say */
};

struct supervisor {
    struct process ranks[RANKS_MAX];
    int count;
    struct shared_room *room;
    volatile sig_atomic_t *stop; /* shared */
    double stopped_at;
    bool patient; /* see struct ranks */
};

/* A file in memory, which ends with the last process that has it open. */
static int memory_file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        die("cannot make a file in memory: %s", strerror(errno));
    return fd;
}

static int spool_stdin(void)
{
    int fd = memory_file("stdin");
    char buffer[65536];
    struct error e;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("cannot read standard input: %s", strerror(errno));
        if (n == 0)
            return fd;
        if (write_all(fd, buffer, (size_t)n, &e) != 0)
            die("cannot keep standard input: %s", e.text);
    }
}

/* Each rank reads from the beginning, at its own pace. */
static void open_spooled(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = open(path, O_RDONLY);
    if (own < 0 || dup2(own, STDIN_FILENO) < 0)
        die("cannot read standard input again: %s", strerror(errno));
    close(own);
    close(fd);
}

static void kill_all(struct supervisor *s)
{
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid > 0)
            kill(s->ranks[i].pid, SIGKILL);
    for (int i = 0; i < s->count; i++)
        if (s->ranks[i].pid > 0)
            waitpid(s->ranks[i].pid, NULL, 0);
}

/* Prints what a silent rank said, line by line. */
static void pass_on(const struct supervisor *s, int rank)
{
    char line[1024];
    int fd = s->ranks[rank].said < 0 ? -1 : dup(s->ranks[rank].said);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (!f)
        return;
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *text = strstr(line, ": "); /* past the program's name */
        warn("rank %d: %s", rank, text ? text + 2 : line);
    }
    fclose(f);
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
    pass_on(s, rank);
    kill_all(s);
    warn("rank %d (process %d) was killed by SIG%s", rank, pid, sigabbrev_np(signal));
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
        pass_on(s, rank);
    kill_all(s);
    exit(code);
}

_Noreturn static void end_hung(struct supervisor *s)
{
    for (int i = 0; i < s->count; i++) {
        const struct process *p = &s->ranks[i];
        if (p->pid > 0 && (p->stopped || !shared_room_waits(s->room, i)))
            warn("rank %d (process %d) does not answer: it is killed, the last checkpoint stays", i,
                 (int)p->pid);
    }
    kill_all(s);
    exit(1);
}

static double patience(const struct supervisor *s)
{
    double longest = 5 * shared_room_longest_wait(s->room);
    return longest > PATIENCE ? longest : PATIENCE;
}

static void on_stop_signal(struct supervisor *s, int signal)
{
    if (*s->stop) {
        kill_all(s);
        exit(128 + signal);
    }
    *s->stop = signal;
    s->stopped_at = seconds_now();
}

_Noreturn static void supervise(struct supervisor *s, const sigset_t *signals)
{
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
        if (*s->stop && !s->patient && is_alive(s) && seconds_now() - s->stopped_at > patience(s))
            end_hung(s);
    }
    shared_room_free(s->room);
    exit(0);
}

/* threads: of all ranks. */
static void share_host(const struct collective *c, int threads)
{
    int share = threads / c->size + (c->rank < threads % c->size);
    threads_init(share > 0 ? share : 1);
    if (c->rank > 0)
        message_set_verbosity(VERBOSITY_QUIET);
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
    }
    share_host(r->collective, threads);
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
    threads_init(1); /* no other thread while forking */
    s.count = count;
    s.patient = r->patient;
    s.room = shared_room_new(count);
    s.stop = mmap(NULL, sizeof *s.stop, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s.stop == MAP_FAILED)
        die("cannot share memory between %d ranks: %s", count, strerror(errno));
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
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
    message_init(xasprintf("%s: rank %d", program, r->collective->rank));
    if (ftruncate(STDERR_FILENO, 0) != 0) /* the first rank has said it */
        warn("cannot truncate a file in memory: %s", strerror(errno));
    dup2(r->report, STDERR_FILENO);
    close(r->report);
    r->report = -1;
}
