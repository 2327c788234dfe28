#include "common/base/unfinished.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/signal_name.h"
#include "common/program/stop.h"
#include "tests/support/tap.h"

static int files_in(const char *folder)
{
    DIR *d = opendir(folder);
    int count = 0;
    CHECK(d);
    for (const struct dirent *entry; (entry = readdir(d));)
        count += entry->d_name[0] != '.';
    closedir(d);
    return count;
}

/* Runs f with an unfinished file in a process of its own; returns its status. */
static int in_child(const char *path, void (*f)(int), int argument)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct atomic_file file;
        struct error e;
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        if (atomic_file_open(&file, path, &e) != 0 || write(file.fd, "half", 4) != 4)
            _exit(99);
        f(argument);
        if (atomic_file_commit(&file, &e) != 0)
            _exit(99);
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void by_signal(int number)
{
    raise(number);
}

static void by_die(int unused)
{
    close(STDERR_FILENO);
    die("an error");
}

static void by_second_signal(int number)
{
    stop_catch();
    raise(number);
    raise(number);
}

/* The copy of a process that is forked does not own its files. */
static void by_fork(int number)
{
    pid_t child = fork();
    if (child == 0) {
        raise(number);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    static const int numbers[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
                                  SIGUSR2, SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ};
    message_init(argv[0]);
    /* Not in test_folder(), which a child that exits removes. */
    const char *top = getenv("TMPDIR");
    char *folder = xasprintf("%s/unfinished.XXXXXX", top ? top : "/tmp");
    CHECK(mkdtemp(folder));
    char *path = path_join(folder, "out");
    /* A job in the background begins with some of them ignored. */
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], SIG_DFL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int status = in_child(path, by_signal, numbers[i]);
        tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == numbers[i] && files_in(folder) == 0,
               "SIG%s ends the process and leaves no file", signal_name(numbers[i]));
    }
    int status = in_child(path, by_die, 0);
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 1 && files_in(folder) == 0,
           "nor does an error elsewhere");
    status = in_child(path, by_second_signal, SIGTERM);
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM && files_in(folder) == 0,
           "nor does a second signal to a program that catches the first");
    status = in_child(path, by_fork, SIGTERM);
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0 && files_in(folder) == 1 &&
               file_exists(path),
           "a forked process removes nothing");
    CHECK(unlink(path) == 0);
    signal(SIGHUP, SIG_IGN);
    status = in_child(path, by_signal, SIGHUP);
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0 && file_exists(path),
           "an ignored signal stays ignored");
    status = in_child(path, by_signal, SIGTERM);
    tap_ok(WIFSIGNALED(status) && files_in(folder) == 1, "a finished file stays");
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    free(path);
    free(folder);
    return tap_done();
}
