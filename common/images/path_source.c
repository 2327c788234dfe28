#include "common/images/path_source.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/message.h"

#define READ_SIZE 65536
/* Longer than any path the system accepts: such input is not a list of paths. */
#define LONGEST_PATH 65536

void path_source_arguments(struct path_source *s, int count, char *const *arguments)
{
    *s = (struct path_source){.arguments = arguments, .argument_count = count, .fd = -1};
}

void path_source_stream(struct path_source *s, int fd, char separator)
{
    *s = (struct path_source){.fd = fd, .separator = separator};
}

void path_source_release(struct path_source *s)
{
    free(s->buffer);
    *s = (struct path_source){.fd = -1};
}

static int64_t count_stream(const struct path_source *s)
{
    struct stat st;
    off_t at = lseek(s->fd, 0, SEEK_CUR);
    if (fstat(s->fd, &st) != 0 || !S_ISREG(st.st_mode) || at < 0)
        return -1;
    char *block = xmalloc(READ_SIZE);
    int64_t count = 0;
    bool counted = false;
    ssize_t n;
    for (; (n = pread(s->fd, block, READ_SIZE, at)) > 0; at += n) {
        for (ssize_t i = 0; i < n; i++) {
            bool blank = block[i] == s->separator || (s->separator && block[i] == '\r');
            count += !blank && !counted;
            counted = block[i] != s->separator && (counted || !blank);
        }
    }
    free(block);
    return n < 0 ? -1 : count;
}

int64_t path_source_count(const struct path_source *s)
{
    return s->arguments ? s->argument_count : count_stream(s);
}

/* Lists with line ends may come from Windows, with CRLF and a byte order mark. */
static char *without_marks(struct path_source *s, char *start, char *stop)
{
    static const char mark[] = "\xef\xbb\xbf";
    if (!s->separator)
        return start;
    if (!s->line_read && strncmp(start, mark, strlen(mark)) == 0)
        start += strlen(mark);
    while (stop > start && stop[-1] == '\r')
        *--stop = 0;
    s->line_read = true;
    return start;
}

/* Removes one path from the buffer; NULL if none is complete. */
static char *take(struct path_source *s)
{
    while (s->begin < s->end) {
        char *start = s->buffer + s->begin;
        char *stop = memchr(start, s->separator, s->end - s->begin);
        if (!stop && !s->at_end)
            return NULL;
        stop = stop ? stop : s->buffer + s->end; /* fill() leaves room for this zero */
        *stop = 0;
        s->begin = (size_t)(stop - s->buffer) + 1;
        start = without_marks(s, start, stop);
        if (*start)
            return start;
    }
    return NULL;
}

/* Returns 1 if input is readable, 0 if woken, -1 on failure. */
static int wait_readable(const struct path_source *s, int wake_fd, struct error *e)
{
    struct pollfd fds[] = {{.fd = s->fd, .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return error_errno(e, "cannot wait for the list of paths");
    return fds[1].revents ? 0 : 1;
}

/* Whether a text begins with the byte order mark of UTF-16, little or big endian. */
static bool is_utf16(const char *text)
{
    return memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0;
}

static int fill(struct path_source *s, struct error *e)
{
    if (s->begin > 0) {
        memmove(s->buffer, s->buffer + s->begin, s->end - s->begin);
        s->end -= s->begin;
        s->begin = 0;
    }
    if (s->end > LONGEST_PATH) {
        return error_set(e, "the input is not a list of paths: %zu bytes without a %s", s->end,
                         s->separator ? "line end" : "NUL");
    }
    if (s->end + READ_SIZE + 1 > s->capacity) {
        s->capacity = s->end + READ_SIZE + 1;
        s->buffer = xrealloc(s->buffer, s->capacity);
    }
    ssize_t n;
    do {
        n = read(s->fd, s->buffer + s->end, READ_SIZE);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_errno(e, "cannot read the list of paths");
    if (n >= 2 && s->begin == 0 && s->end == 0 && !s->line_read && is_utf16(s->buffer))
        return error_set(e, "the list of paths is in UTF-16: convert it to UTF-8");
    if (s->separator && memchr(s->buffer + s->end, 0, (size_t)n))
        return error_set(e, "NUL byte in the list of paths: NUL-separated lists need -0");
    s->end += (size_t)n;
    s->at_end = n == 0;
    return 0;
}

int path_source_next(struct path_source *s, int wake_fd, const char **path, struct error *e)
{
    if (s->arguments) {
        while (s->next_argument < s->argument_count && !*s->arguments[s->next_argument])
            s->next_argument++;
        if (s->next_argument == s->argument_count)
            return 0;
        *path = s->arguments[s->next_argument++];
        return 1;
    }
    for (;;) {
        *path = take(s);
        if (*path)
            return 1;
        if (s->at_end)
            return 0;
        int ready = wait_readable(s, wake_fd, e);
        if (ready <= 0)
            return ready;
        if (fill(s, e) != 0)
            return -1;
    }
}
