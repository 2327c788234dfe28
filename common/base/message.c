#include "common/base/message.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/escape.h"
#include "common/base/terminal.h"
#include "common/base/write_all.h"

static const char *program_name = "ccld";
static enum verbosity verbosity = VERBOSITY_NORMAL;
static pthread_mutex_t terminal_mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *bottom_line;

#define ERASE_LINE "\r\033[K"

void message_init(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    program_name = slash ? slash + 1 : argv0;
}

void message_set_verbosity(enum verbosity v)
{
    verbosity = v;
}

enum verbosity message_verbosity(void)
{
    return verbosity;
}

void terminal_lock(void)
{
    pthread_mutex_lock(&terminal_mutex);
}

void terminal_unlock(void)
{
    pthread_mutex_unlock(&terminal_mutex);
}

static void put(const char *s)
{
    write_all(2, s, strlen(s), NULL);
}

void terminal_set_line(const char *line)
{
    if (bottom_line)
        put(ERASE_LINE);
    bottom_line = line && *line ? line : NULL;
    if (bottom_line)
        put(bottom_line);
}

/* One write per message keeps lines intact when several processes share stderr. */
static void write_line(char *line, size_t length)
{
    line[length] = '\0';
    char *escaped = escape_line(line);
    if (escaped) {
        line = escaped;
        length = strlen(escaped);
    }
    line[length] = '\n';
    terminal_lock();
    const char *below = bottom_line;
    if (below)
        put(ERASE_LINE);
    write_all(2, line, length + 1, NULL);
    if (below)
        put(below);
    terminal_unlock();
    free(escaped);
}

static void print_line(const char *format, va_list args)
{
    char stack[1024], *line = stack;
    va_list again;
    va_copy(again, args);
    int prefix = snprintf(stack, sizeof stack, "%s: ", program_name);
    if (prefix < 0 || (size_t)prefix >= sizeof stack)
        prefix = 0;
    int n = vsnprintf(stack + prefix, sizeof stack - (size_t)prefix, format, args);
    if (n < 0)
        n = 0;
    size_t length = (size_t)prefix + (size_t)n;
    if (length + 2 > sizeof stack) {
        char *big = malloc(length + 2);
        if (big) {
            memcpy(big, stack, (size_t)prefix);
            vsnprintf(big + prefix, (size_t)n + 1, format, again);
            line = big;
        } else {
            length = sizeof stack - 2;
        }
    }
    va_end(again);
    write_line(line, length);
    if (line != stack)
        free(line);
}

void warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void inform(const char *format, ...)
{
    if (verbosity < VERBOSITY_NORMAL)
        return;
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

void note(const char *format, ...)
{
    if (verbosity < VERBOSITY_VERBOSE)
        return;
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
}

static void drop_line(void)
{
    terminal_lock();
    terminal_set_line(NULL);
    terminal_unlock();
}

void die(const char *format, ...)
{
    drop_line();
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    exit(1);
}

void die_usage(const char *format, ...)
{
    drop_line();
    va_list args;
    va_start(args, format);
    print_line(format, args);
    va_end(args);
    char hint[256];
    snprintf(hint, sizeof hint, "try '%s --help'\n", program_name);
    put(hint);
    exit(2);
}

void die_in_handler(const char *before, const char *name, const char *after)
{
    const char *parts[] = {program_name, ": ", before, name, after};
    char line[5120] = ERASE_LINE;
    size_t length = bottom_line ? strlen(ERASE_LINE) : 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (const char *c = parts[i]; *c && length + ESCAPE_MAX < sizeof line;)
            length += escape_next(line + length, &c, false);
    line[length++] = '\n';
    write_all(2, line, length, NULL);
    _exit(1);
}

void check_failed(const char *file, int line, const char *what)
{
    warn("%s:%d: internal error: %s", file, line, what);
    abort();
}

void *xallocated(void *p)
{
    if (!p)
        die("out of memory");
    return p;
}

static void *or_die(void *p, size_t size)
{
    if (!p)
        die("out of memory: cannot allocate %zu bytes", size);
    return p;
}

void *xmalloc(size_t size)
{
    return or_die(malloc(size ? size : 1), size);
}

__attribute__((constructor)) static void set_json_allocation(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = xmalloc, .free_fn = free});
}

void *xcalloc(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    return or_die(calloc(count, size), count * size);
}

void *xrealloc(void *p, size_t size)
{
    return or_die(realloc(p, size ? size : 1), size);
}

char *xstrdup(const char *s)
{
    size_t size = strlen(s) + 1;
    return memcpy(xmalloc(size), s, size);
}

static char *format_text(const char *format, va_list args)
{
    char *s;
    if (vasprintf(&s, format, args) < 0)
        die("out of memory");
    return s;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *s = format_text(format, args);
    va_end(args);
    return s;
}

void xappend(char **text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *more = format_text(format, args);
    va_end(args);
    char *all = xasprintf("%s%s", *text ? *text : "", more);
    free(more);
    free(*text);
    *text = all;
}
