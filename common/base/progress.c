#include "common/base/progress.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
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
    char *label, *unit;
    int64_t total;
    double started, drawn;
    char line[512];
};

#define REDRAW_SECONDS 0.1

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

struct progress *progress_start(const char *label, const char *unit, int64_t total)
{
    const char *term = getenv("TERM");
    if (message_verbosity() < VERBOSITY_NORMAL || !isatty(2) || (term && !strcmp(term, "dumb")))
        return NULL;
    struct progress *p = xcalloc(1, sizeof *p);
    pthread_mutex_init(&p->mutex, NULL);
    p->label = xstrdup(label);
    p->unit = xstrdup(unit);
    p->total = total;
    p->started = seconds_now();
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

static void compose(const struct progress *p, char *line, size_t size, int64_t done,
                    const char *detail, double now)
{
    double elapsed = now - p->started, rate = elapsed > 0 ? (double)done / elapsed : 0;
    char left[32];
    int n = append(line, size, 0, "%s: %" PRId64, p->label, done);
    if (p->total >= 0)
        n = append(line, size, n, " of %" PRId64, p->total);
    n = append(line, size, n, " %s", p->unit);
    if (rate >= 1 || (rate > 0 && elapsed < 1))
        n = append(line, size, n, ", %.1f/s", rate);
    else if (rate > 0)
        n = append(line, size, n, ", %.1f s each", 1 / rate);
    if (p->total > done && rate > 0)
        n = append(line, size, n, ", %s left",
                   format_duration(left, (double)(p->total - done) / rate));
    if (detail && *detail)
        append(line, size, n, ", %s", detail);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    fit_terminal(line);
}

void progress_update(struct progress *p, int64_t done, const char *detail)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    double now = seconds_now();
    if (now - p->drawn >= REDRAW_SECONDS) {
        char line[sizeof p->line];
        p->drawn = now;
        compose(p, line, sizeof line, done, detail, now);
        terminal_lock();
        memcpy(p->line, line, sizeof line);
        terminal_set_line(p->line);
        terminal_unlock();
    }
    pthread_mutex_unlock(&p->mutex);
}

void progress_finish(struct progress *p)
{
    if (!p)
        return;
    terminal_lock();
    terminal_set_line(NULL);
    terminal_unlock();
    pthread_mutex_destroy(&p->mutex);
    free(p->label);
    free(p->unit);
    free(p);
}
