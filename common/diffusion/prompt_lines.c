#include "common/diffusion/prompt_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/message.h"

#define READ_SIZE 65536

int prompt_lines_open(struct prompt_lines *s, const char *path, struct error *e)
{
    bool from_stdin = !path || strcmp(path, "-") == 0;
    *s = (struct prompt_lines){
        .fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC),
        .source = from_stdin ? xstrdup("standard input") : xasprintf("'%s'", path),
    };
    if (s->fd < 0)
        return error_errno(e, "cannot open %s", s->source);
    struct stat st;
    s->is_file = fstat(s->fd, &st) == 0 && S_ISREG(st.st_mode);
    return 0;
}

void prompt_lines_close(struct prompt_lines *s)
{
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    free(s->source);
    free(s->buffer);
    *s = (struct prompt_lines){.fd = -1, .at_end = true};
}

bool prompt_lines_ended(const struct prompt_lines *s)
{
    return s->at_end && s->begin == s->end;
}

/* Removes one line from the buffer; NULL if none is complete. *size excludes the line's end. */
static char *take(struct prompt_lines *s, size_t *size)
{
    if (s->begin == s->end)
        return NULL;
    char *start = s->buffer + s->begin, *stop = memchr(start, '\n', s->end - s->begin);
    if (!stop && !s->at_end)
        return NULL;
    s->begin = stop ? (size_t)(stop - s->buffer) + 1 : s->end;
    stop = stop ? stop : s->buffer + s->end; /* fill() leaves room for the zero */
    while (stop > start && stop[-1] == '\r')
        stop--;
    *stop = 0;
    *size = (size_t)(stop - start);
    return start;
}

static int fill(struct prompt_lines *s, struct error *e)
{
    if (s->begin > 0) {
        memmove(s->buffer, s->buffer + s->begin, s->end - s->begin);
        s->end -= s->begin;
        s->begin = 0;
    }
    if (s->end + READ_SIZE + 1 > s->capacity) {
        s->capacity = 2 * s->end + READ_SIZE + 1;
        s->buffer = xrealloc(s->buffer, s->capacity);
    }
    ssize_t n;
    do {
        n = read(s->fd, s->buffer + s->end, READ_SIZE);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_errno(e, "cannot read %s", s->source);
    s->end += (size_t)n;
    s->at_end = n == 0;
    return 0;
}

static bool has_input(const struct prompt_lines *s)
{
    struct pollfd fd = {.fd = s->fd, .events = POLLIN};
    return poll(&fd, 1, 0) > 0;
}

int prompt_lines_next(struct prompt_lines *s, bool wait, char **line, struct error *e)
{
    for (;;) {
        size_t size;
        char *text = take(s, &size);
        if (text) {
            s->number++;
            if (strlen(text) != size)
                return error_set(e, "%s, line %" PRId64 ": NUL byte in the text", s->source,
                                 s->number);
            if (s->number == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
                text += 3; /* byte order mark */
            *line = text;
            if (text[strspn(text, " \t\v\f")])
                return 1;
        } else if (s->at_end || !(wait || has_input(s))) {
            return 0;
        } else if (fill(s, e) != 0) {
            return -1;
        }
    }
}
