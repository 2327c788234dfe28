#include "common/base/input_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"

#define READ_SIZE 65536

ssize_t input_lines_read(struct input_lines *l)
{
    if (l->begin > 0) {
        memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->end + READ_SIZE + 1 > l->capacity) {
        l->capacity = 2 * l->end + READ_SIZE + 1;
        l->buffer = xrealloc(l->buffer, l->capacity);
    }
    ssize_t n;
    do {
        n = read(l->fd, l->buffer + l->end, READ_SIZE);
    } while (n < 0 && errno == EINTR);
    l->end += n > 0 ? (size_t)n : 0;
    l->at_end = n == 0;
    return n;
}

char *input_lines_take(struct input_lines *l, char separator, size_t *size)
{
    static const char mark[] = "\xef\xbb\xbf";
    if (l->begin == l->end)
        return NULL;
    char *start = l->buffer + l->begin, *stop = memchr(start, separator, l->end - l->begin);
    if (!stop && !l->at_end)
        return NULL;
    l->begin = stop ? (size_t)(stop - l->buffer) + 1 : l->end;
    stop = stop ? stop : l->buffer + l->end; /* input_lines_read leaves room for the zero */
    *stop = 0;
    if (separator && !l->taken && strncmp(start, mark, strlen(mark)) == 0)
        start += strlen(mark);
    while (separator && stop > start && stop[-1] == '\r')
        *--stop = 0;
    l->taken = true;
    *size = (size_t)(stop - start);
    return start;
}

void input_lines_release(struct input_lines *l)
{
    free(l->buffer);
    *l = (struct input_lines){.fd = -1};
}
