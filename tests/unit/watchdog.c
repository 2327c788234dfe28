/* Waits that are too long end the process; others do not. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/train/watchdog.h"
#include "tests/support/tap.h"

#define ENDED 7

static volatile sig_atomic_t stop;

static void end(const char *what, double seconds)
{
    _exit(strcmp(what, "a gather") == 0 && seconds > 0.3 ? ENDED : 1);
}

static void wait_long(void)
{
    watchdog_enter("a gather");
    usleep(1500000);
    watchdog_leave();
}

static void wait_patiently(void)
{
    watchdog_patient(true);
    wait_long();
    watchdog_patient(false);
}

static void wait_often(void)
{
    for (int i = 0; i < 15; i++) {
        watchdog_enter("a gather");
        usleep(100000);
        watchdog_leave();
    }
}

/* Five times the longest wait so far is 2.5 s. */
static void wait_as_before(void)
{
    watchdog_patient(true);
    watchdog_enter("a gather");
    usleep(500000);
    watchdog_leave();
    watchdog_patient(false);
    wait_long();
}

static void wait_after_stop(void)
{
    watchdog_stopping();
    wait_long();
}

/* The exit status of a process that waits with this limit. */
static int status_of(void (*waits)(void), const char *limit)
{
    int status;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        setenv("CCLD_WATCHDOG", limit, 1);
        watchdog_start(&(struct watchdog_options){.end = end, .stop = &stop});
        waits();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int main(void)
{
    unsetenv("CCLD_WATCHDOG");
    tap_ok(watchdog_limit(0, false) == 600 && watchdog_limit(0, true) == 10,
           "ten minutes, ten seconds after a stop signal");
    tap_ok(watchdog_limit(200, false) == 1000 && watchdog_limit(3, true) == 15,
           "or five times the longest wait");
    setenv("CCLD_WATCHDOG", "4", 1);
    tap_ok(watchdog_limit(0, false) == 4 && watchdog_limit(0, true) == 4, "or what is asked for");
    setenv("CCLD_WATCHDOG", "0", 1);
    tap_ok(isinf(watchdog_limit(0, false)) && watchdog_limit(0, true) == 10,
           "0: no limit but after a stop signal");
    tap_ok(status_of(wait_long, "0.4") == ENDED, "a long wait ends the process");
    tap_ok(status_of(wait_often, "1") == 0, "many short ones do not");
    tap_ok(status_of(wait_patiently, "0.4") == 0, "nor does a patient one");
    tap_ok(status_of(wait_as_before, "0.4") == 0, "nor one that is not much longer than others");
    tap_ok(status_of(wait_long, "5") == 0, "nor one that is shorter than the limit");
    tap_ok(status_of(wait_after_stop, "0.4") == ENDED, "a stop signal elsewhere counts");
    return tap_done();
}
