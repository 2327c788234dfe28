#ifndef CCLD_IMAGES_PATH_SOURCE_H
#define CCLD_IMAGES_PATH_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* A list of paths: arguments, or a stream with one path per line or NUL-separated. Empty lines are
 * passed over. */
struct path_source {
    char *const *arguments; /* borrowed; NULL: the stream */
    int argument_count, next_argument;

    int fd;
    char separator; /* '\n' or '\0' */
    char *buffer;
    size_t begin, end, capacity; /* what is read and not yet given out */
    int at_end;
};

void path_source_arguments(struct path_source *s, int count, char *const *arguments);
void path_source_stream(struct path_source *s, int fd, char separator);
void path_source_release(struct path_source *s);

/* How many paths there are, or -1 when that cannot be known (a pipe). Before the first next. */
int64_t path_source_count(const struct path_source *s);

/* The next path, borrowed until the next call, in *path. Returns 1; 0 at the end of the list, or,
 * while waiting for input, as soon as wake_fd (-1: none) is readable; -1 on failure. */
int path_source_next(struct path_source *s, int wake_fd, const char **path, struct error *e);

#endif
