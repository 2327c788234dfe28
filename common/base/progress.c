#include "common/base/progress.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/terminal.h"

struct progress {
    pthread_mutex_t mutex;
    char *label, *unit; /* label: NULL if the caller's text comes first */
    int64_t total;
    double started, drawn;
    double interval; /* seconds between lines */
    bool on_terminal;
    char line[512];
};

#define REDRAW_SECONDS 0.1
#define REPORT_SECONDS 60
#define RATE_SECONDS   1 /* before they have passed, a rate says nothing */

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *format_duration(char buf[32], double seconds)
{
    if (!(seconds >= 0 && seconds < 1e9))
        snprintf(buf, 32, "?");
    else if (seconds < 59.95)
        snprintf(buf, 32, "%.1f s", seconds);
    else {
        long s = lround(seconds);
        if (s < 3600)
            snprintf(buf, 32, "%ld min %02ld s", s / 60, s % 60);
        else
            snprintf(buf, 32, "%ld h %02ld min", s / 3600, s % 3600 / 60);
    }
    return buf;
}

const char *format_bytes(char buf[32], double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t u = 0;
    /* 999.95 would print as 1000.0 */
    while ((u == 0 ? bytes >= 1000 : bytes >= 999.95) && u + 1 < sizeof units / sizeof *units) {
        bytes /= 1000;
        u++;
    }
    snprintf(buf, 32, u == 0 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
    return buf;
}

const char *format_count(char buf[32], int64_t n)
{
    char digits[24], *out = buf;
    int size = snprintf(digits, sizeof digits, "%" PRId64, n);
    for (int i = 0; i < size; i++) {
        if (i > 0 && digits[i - 1] != '-' && (size - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return buf;
}

/* Seconds between lines where no terminal shows progress; 0: no lines. */
static double report_interval(void)
{
    const char *text = getenv("CCLD_PROGRESS");
    char *end;
    double seconds = text ? strtod(text, &end) : REPORT_SECONDS;
    return text && (end == text || *end || !(seconds >= 0)) ? REPORT_SECONDS : seconds;
}

struct progress *progress_start(const char *label, const char *unit, int64_t total)
{
    const char *term = getenv("TERM");
    bool on_terminal = isatty(2) && !(term && !strcmp(term, "dumb"));
    double interval = on_terminal ? REDRAW_SECONDS : report_interval();
    if (message_verbosity() < VERBOSITY_NORMAL || interval == 0)
        return NULL;
    struct progress *p = xcalloc(1, sizeof *p);
    pthread_mutex_init(&p->mutex, NULL);
    p->label = label ? xstrdup(label) : NULL;
    p->unit = xstrdup(unit);
    p->total = total;
    p->started = seconds_now();
    p->interval = interval;
    p->on_terminal = on_terminal;
    if (!on_terminal)
        p->drawn = p->started;
    return p;
}

void progress_set_total(struct progress *p, int64_t total)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    p->total = total;
    pthread_mutex_unlock(&p->mutex);
}

__attribute__((format(printf, 4, 5))) static int append(char *line, size_t size, int n,
                                                        const char *format, ...)
{
    if (n < 0 || (size_t)n >= size)
        return n;
    va_list args;
    va_start(args, format);
    int added = vsnprintf(line + n, size - (size_t)n, format, args);
    va_end(args);
    return added < 0 ? n : n + added;
}

/* Truncates to the width of the terminal without splitting a UTF-8 sequence. Counts a byte as a
 * column, which errs on the short side. */
static void fit_terminal(char *line)
{
    struct winsize w;
    size_t columns = 80;
    if (ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col > 1)
        columns = w.ws_col;
    size_t n = strlen(line);
    if (n < columns)
        return;
    n = columns - 1;
    while (n > 0 && ((unsigned char)line[n] & 0xc0) == 0x80)
        n--;
    line[n] = '\0';
}

/* "encoding: 12 of 40 images, 1.5/s" */
static int append_count(const struct progress *p, char *line, size_t size, int64_t done,
                        double elapsed)
{
    double rate = elapsed >= RATE_SECONDS ? (double)done / elapsed : 0;
    int n = append(line, size, 0, "%s: %" PRId64, p->label, done);
    if (p->total >= 0)
        n = append(line, size, n, " of %" PRId64, p->total);
    n = append(line, size, n, " %s", p->unit);
    if (rate >= 1)
        return append(line, size, n, ", %.1f/s", rate);
    if (rate > 0)
        return append(line, size, n, ", %.1f s each", 1 / rate);
    return n;
}

static void compose(const struct progress *p, char *line, size_t size, int64_t done,
                    const char *detail, double now)
{
    double elapsed = now - p->started, rate = elapsed > 0 ? (double)done / elapsed : 0;
    char left[32];
    int n = p->label ? append_count(p, line, size, done, elapsed)
                     : append(line, size, 0, "%s, %.*f %s/s", detail ? detail : "",
                              rate < 1 ? 3 : 1, rate, p->unit);
    if (p->total > done && rate > 0 && (!p->label || elapsed >= RATE_SECONDS))
        n = append(line, size, n, ", %s left",
                   format_duration(left, (double)(p->total - done) / rate));
    if (p->label && detail && *detail)
        n = append(line, size, n, ", %s", detail);
    if (!p->label && p->total < 0)
        append(line, size, n, ", no end set");
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

static void draw(struct progress *p, const char *line)
{
    terminal_lock();
    snprintf(p->line, sizeof p->line, "%s", line);
    fit_terminal(p->line);
    terminal_set_line(p->line);
    terminal_unlock();
}

void progress_update(struct progress *p, int64_t done, const char *detail)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    double now = seconds_now();
    if (now - p->drawn >= p->interval) {
        char line[sizeof p->line];
        p->drawn = now;
        compose(p, line, sizeof line, done, detail, now);
        if (p->on_terminal)
            draw(p, line);
        else
            inform("%s", line);
    }
    pthread_mutex_unlock(&p->mutex);
}

void progress_finish(struct progress *p)
{
    if (!p)
        return;
    if (p->on_terminal) {
        terminal_lock();
        terminal_set_line(NULL);
        terminal_unlock();
    }
    pthread_mutex_destroy(&p->mutex);
    free(p->label);
    free(p->unit);
    free(p);
}
