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
    *s = (struct path_source){.arguments = arguments, .argument_count = count, .input.fd = -1};
}

void path_source_stream(struct path_source *s, int fd, char separator)
{
    *s = (struct path_source){.input.fd = fd, .separator = separator};
}

void path_source_release(struct path_source *s)
{
    input_lines_release(&s->input);
    *s = (struct path_source){.input.fd = -1};
}

static int64_t count_stream(const struct path_source *s)
{
    struct stat st;
    off_t at = lseek(s->input.fd, 0, SEEK_CUR);
    if (fstat(s->input.fd, &st) != 0 || !S_ISREG(st.st_mode) || at < 0)
        return -1;
    char *block = xmalloc(READ_SIZE);
    int64_t count = 0;
    bool counted = false;
    ssize_t n;
    for (; (n = pread(s->input.fd, block, READ_SIZE, at)) > 0; at += n) {
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

/* Removes one path from the buffer; NULL if none is complete. */
static char *take(struct path_source *s)
{
    size_t size;
    char *path;
    do {
        path = input_lines_take(&s->input, s->separator, &size);
    } while (path && !*path);
    return path;
}

/* Returns 1 if input is readable, 0 if woken, -1 on failure. */
static int wait_readable(const struct path_source *s, int wake_fd, struct error *e)
{
    struct pollfd fds[] = {{.fd = s->input.fd, .events = POLLIN},
                           {.fd = wake_fd, .events = POLLIN}};
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
    struct input_lines *in = &s->input;
    if (in->end - in->begin > LONGEST_PATH) {
        return error_set(e, "the input is not a list of paths: %zu bytes without a %s",
                         in->end - in->begin, s->separator ? "line end" : "NUL");
    }
    ssize_t n = input_lines_read(in);
    if (n < 0)
        return error_errno(e, "cannot read the list of paths");
    if (n >= 2 && in->end == (size_t)n && !in->taken && is_utf16(in->buffer))
        return error_set(e, "the list of paths is in UTF-16: convert it to UTF-8");
    if (s->separator && memchr(in->buffer + in->end - n, 0, (size_t)n))
        return error_set(e, "NUL byte in the list of paths: NUL-separated lists need -0");
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
        if (s->input.at_end)
            return 0;
        int ready = wait_readable(s, wake_fd, e);
        if (ready <= 0)
            return ready;
        if (fill(s, e) != 0)
            return -1;
    }
}
