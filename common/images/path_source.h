#ifndef CCLD_IMAGES_PATH_SOURCE_H
#define CCLD_IMAGES_PATH_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/input_lines.h"

/* A list of paths: command-line arguments, or a stream with one path per line or NUL-separated.
 * Empty paths are skipped. In lines, carriage returns at the end and a byte order mark at the
 * beginning of the list are dropped; paths that have them need NUL. */
struct path_source {
    char *const *arguments; /* borrowed; NULL: read the stream */
    int argument_count, next_argument;

    struct input_lines input;
    char separator; /* '\n' or '\0' */
};

void path_source_arguments(struct path_source *s, int count, char *const *arguments);
void path_source_stream(struct path_source *s, int fd, char separator);
void path_source_release(struct path_source *s);

/* The number of paths, or -1 if it cannot be known (a pipe). Call it before path_source_next. */
int64_t path_source_count(const struct path_source *s);

/* Stores the next path in *path, borrowed until the next call, and returns 1. Returns 0 at the end
 * of the list or if wake_fd (-1: none) becomes readable while waiting for input; -1 on failure. */
int path_source_next(struct path_source *s, int wake_fd, const char **path, struct error *e);

#endif
