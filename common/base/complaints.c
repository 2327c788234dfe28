#include "common/base/complaints.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"

#define SHOWN       10
#define REASONS_MAX 32

struct reason {
    char *text;
    int64_t count;
};

struct complaints {
    pthread_mutex_t mutex;
    int count;
    struct reason reasons[REASONS_MAX]; /* the last one stands for all others */
};

struct complaints *complaints_new(void)
{
    struct complaints *c = xcalloc(1, sizeof *c);
    pthread_mutex_init(&c->mutex, NULL);
    return c;
}

/* Called with the mutex held. */
static struct reason *find(struct complaints *c, const char *text)
{
    for (int i = 0; i < c->count; i++)
        if (strcmp(c->reasons[i].text, text) == 0)
            return &c->reasons[i];
    if (c->count == REASONS_MAX)
        return &c->reasons[REASONS_MAX - 1];
    struct reason *r = &c->reasons[c->count++];
    r->text = xstrdup(c->count == REASONS_MAX ? "other reasons" : text);
    return r;
}

void complain(struct complaints *c, const char *reason, const char *format, ...)
{
    pthread_mutex_lock(&c->mutex);
    bool shown = find(c, reason)->count++ < SHOWN;
    pthread_mutex_unlock(&c->mutex);
    if (!shown)
        return;
    char *line;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&line, format, args);
    va_end(args);
    if (n < 0)
        die("out of memory");
    warn("%s", line);
    free(line);
}

void complaints_end(struct complaints *c, const char *advice)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        struct reason *r = &c->reasons[i];
        int64_t more = r->count - SHOWN;
        char number[32];
        if (more > 0)
            warn("%s more file%s: %s%s", format_count(number, more), plural(more), r->text, advice);
        free(r->text);
    }
    pthread_mutex_destroy(&c->mutex);
    free(c);
}
