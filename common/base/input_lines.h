#ifndef CCLD_BASE_INPUT_LINES_H
#define CCLD_BASE_INPUT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Lines of a descriptor, which may be a pipe, as they arrive. Starts zeroed but for fd. */
struct input_lines {
    int fd;
    char *buffer;
    size_t begin, end, capacity; /* buffer[begin, end) has been read but not taken yet */
    bool at_end;                 /* all has been read */
    bool taken;                  /* the first line has been */
};

/* Reads once, waiting for input, and appends it to what has not been taken. Returns the number of
 * bytes, 0 at the end, or -1 with errno. */
ssize_t input_lines_read(struct input_lines *l);
/* Takes one line, zero-terminated in place of the separator and valid until the next read; NULL if
 * none is complete. Lines that end in a line feed may come from Windows: carriage returns before it
 * are left out, and in the first line a byte order mark. *size: the line's bytes, which may contain
 * zeros. */
char *input_lines_take(struct input_lines *l, char separator, size_t *size);
void input_lines_release(struct input_lines *l); /* does not close fd */

#endif
