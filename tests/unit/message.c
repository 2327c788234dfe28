#include "common/base/message.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <pty.h>

#include "common/base/progress.h"
#include "tests/support/tap.h"

/* Runs f in a child whose stderr is a pipe, or a terminal of 80 columns; returns its output. */
static int capture(char *text, size_t size, bool terminal, void (*f)(void))
{
    int fds[2];
    struct winsize window = {.ws_row = 24, .ws_col = 80};
    fflush(stdout);
    if (terminal ? openpty(&fds[0], &fds[1], NULL, NULL, &window) : pipe(fds))
        exit(1);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], 2);
        close(fds[0]);
        setenv("TERM", "xterm", 1);
        message_init("/usr/bin/tool");
        f();
        _exit(0);
    }
    close(fds[1]);
    size_t n = 0;
    for (ssize_t got; n + 1 < size && (got = read(fds[0], text + n, size - 1 - n)) > 0;)
        n += (size_t)got;
    text[n] = '\0';
    close(fds[0]);
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void say_all(void)
{
    warn("a warning about %d", 1);
    inform("a summary");
    note("a detail");
}
static void say_quiet(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    say_all();
}
static void say_verbose(void)
{
    message_set_verbosity(VERBOSITY_VERBOSE);
    say_all();
}
static void say_long(void)
{
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    warn("%s", text);
}
static void end_failed(void)
{
    die("cannot read '%s': %s", "x.jpg", "truncated JPEG");
}
static void end_usage(void)
{
    die_usage("no such option");
}
static void end_check(void)
{
    int two = 2;
    CHECK(two == 3);
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 50; i++)
        warn("%s", (const char *)arg);
    return NULL;
}
static void say_at_once(void)
{
    static char lines[4][200];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        memset(lines[i], 'a' + i, sizeof lines[i] - 1);
        pthread_create(&threads[i], NULL, chatter, lines[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void test_messages(void)
{
    char text[60000];
    capture(text, sizeof text, false, say_all);
    tap_ok(!strcmp(text, "tool: a warning about 1\ntool: a summary\n"), "messages by default");
    capture(text, sizeof text, false, say_quiet);
    tap_ok(!strcmp(text, "tool: a warning about 1\n"), "messages with -q");
    capture(text, sizeof text, false, say_verbose);
    tap_ok(!strcmp(text, "tool: a warning about 1\ntool: a summary\ntool: a detail\n"),
           "messages with -v");
    capture(text, sizeof text, false, say_long);
    tap_ok(strlen(text) == 6 + 4999 + 1 && text[strlen(text) - 1] == '\n', "a long message");
    int status = capture(text, sizeof text, false, end_failed);
    tap_ok(status == 1 && !strcmp(text, "tool: cannot read 'x.jpg': truncated JPEG\n"), "die");
    status = capture(text, sizeof text, false, end_usage);
    tap_ok(status == 2 && !strcmp(text, "tool: no such option\ntry 'tool --help'\n"), "die_usage");
    status = capture(text, sizeof text, false, end_check);
    tap_ok(status == 128 + 6 && strstr(text, "message.c:") && strstr(text, "two == 3"), "CHECK");

    capture(text, sizeof text, false, say_at_once);
    int lines = 0, broken = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        lines++;
        broken += strlen(line) != 6 + 199 || strspn(line + 6, (char[]){line[6], 0}) != 199;
    }
    tap_ok(lines == 200 && broken == 0, "lines of several threads stay intact");
}

static void show_progress(void)
{
    struct progress *p = progress_start("encoding", "images", 1000);
    progress_update(p, 10,
                    "with a detail that is much too long for eighty columns, as one can see");
    warn("in between");
    for (int i = 0; i < 1000; i++)
        progress_update(p, 20, NULL);
    usleep(120000);
    progress_update(p, 500, "3 failed");
    progress_finish(p);
}
static void show_progress_quietly(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    show_progress();
}
static void die_in_progress(void)
{
    struct progress *p = progress_start("encoding", "images", -1);
    progress_update(p, 10, NULL);
    die("no space");
}

static int occurrences(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void test_progress(void)
{
    char text[20000];
    capture(text, sizeof text, false, show_progress);
    tap_ok(!strcmp(text, "tool: in between\n"), "no progress if stderr is not a terminal");
    int terminal, other;
    if (openpty(&terminal, &other, NULL, NULL, NULL)) {
        tap_skip("no pseudo-terminals", "progress on a terminal");
        return;
    }
    close(terminal);
    close(other);
    capture(text, sizeof text, true, show_progress_quietly);
    tap_ok(!strcmp(text, "tool: in between\r\n"), "no progress with -q");
    capture(text, sizeof text, true, show_progress);
    tap_ok(strstr(text, "encoding: 10 of 1000 images") == text, "progress on a terminal");
    tap_ok(occurrences(text, "\r\033[Ktool: in between\r\nencoding: 10 of") == 1,
           "a message erases and redraws the line");
    tap_ok(occurrences(text, "encoding: 20 of") < 500,
           "most updates in quick succession are not drawn");
    tap_ok(strstr(text, "encoding: 500 of 1000 images, 3 failed"), "the caller's text");
    size_t n = strlen(text);
    tap_ok(n > 4 && !strcmp(text + n - 4, "\r\033[K"), "the line is erased at the end");
    bool fits = true;
    for (char *at = text; (at = strstr(at, "encoding")); at++)
        fits &= strcspn(at, "\r") < 80;
    tap_ok(fits, "the line is truncated to the width of the terminal");
    int status = capture(text, sizeof text, true, die_in_progress);
    tap_ok(status == 1 && strstr(text, "encoding: 10 images") &&
               strstr(text, "\r\033[Ktool: no space\r\n"),
           "dying erases the line");
}

static void test_formats(void)
{
    char b[32];
    static const struct {
        double seconds;
        const char *text;
    } durations[] = {{0, "0.0 s"},         {12.34, "12.3 s"},
                     {59.9, "59.9 s"},     {59.96, "1 min 00 s"},
                     {200, "3 min 20 s"},  {3599.6, "1 h 00 min"},
                     {3725, "1 h 02 min"}, {360000, "100 h 00 min"},
                     {NAN, "?"},           {-1, "?"},
                     {INFINITY, "?"}};
    static const struct {
        double bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},         {999, "999 B"},    {1000, "1.0 kB"}, {999949, "999.9 kB"},
                 {999960, "1.0 MB"}, {4.7e9, "4.7 GB"}, {2e12, "2.0 TB"}};
    int wrong = 0;
    for (size_t i = 0; i < sizeof durations / sizeof *durations; i++)
        wrong += strcmp(format_duration(b, durations[i].seconds), durations[i].text) != 0;
    tap_ok(wrong == 0, "durations");
    wrong = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        wrong += strcmp(format_bytes(b, sizes[i].bytes), sizes[i].text) != 0;
    tap_ok(wrong == 0, "sizes in bytes");
    double t = seconds_now();
    usleep(2000);
    double d = seconds_now() - t;
    tap_ok(d >= 0.002 && d < 10, "the clock is in seconds");
}

int main(void)
{
    test_messages();
    test_progress();
    test_formats();
    return tap_done();
}
