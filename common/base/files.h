#ifndef CCLD_BASE_FILES_H
#define CCLD_BASE_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/base/write_all.h"

/* A read-only private mapping of a regular file. */
struct mapped_file {
    const uint8_t *data; /* NULL when size is 0 */
    size_t size;
    char *path;
};
int file_map(struct mapped_file *m, const char *path, struct error *e);
void file_unmap(struct mapped_file *m);

/* What functions that read an input return instead of -1 if the system failed and not the file: it
 * lacked file descriptors or memory, or a device reported an error. They have tried again by then;
 * callers that go on without a bad file must not do so without this one. */
#define READ_SYSTEM_FAILED (-2)
/* Fills e with the message for an errno. Returns -1 or READ_SYSTEM_FAILED. */
int read_failed(struct error *e, int number);
/* Whether to try again: if status is READ_SYSTEM_FAILED, for the first three times and after a
 * pause of up to a second. *tries starts at 0. */
bool read_again(int status, int *tries);

/* Reads a whole file of at most `limit` bytes; *data is malloc'ed and followed by a zero byte. May
 * return READ_SYSTEM_FAILED. */
int file_read(uint8_t **data, size_t *size, const char *path, size_t limit, struct error *e);

/* A file that appears under its name only when complete: it is written to a temporary file in the
 * same folder, then fsynced and renamed, and the folder is fsynced. Abandoning it leaves nothing
 * behind, nor does a program that ends before (see unfinished.h). A symbolic link is kept and its
 * target replaced. Devices and pipes are written directly.
 */
struct atomic_file {
    int fd;
    char *path, *temporary; /* temporary is NULL for a device or pipe */
};
int atomic_file_open(struct atomic_file *f, const char *path, struct error *e);
int atomic_file_commit(struct atomic_file *f, struct error *e);
void atomic_file_abandon(struct atomic_file *f);
/* The temporary file has the name of the other, a dot and this number of letters and digits. */
#define ATOMIC_FILE_SUFFIX 6
/* Writes a whole file as an atomic_file. */
int file_write(const char *path, const void *data, size_t size, struct error *e);

int make_directories(const char *path, struct error *e); /* mkdir -p */
char *path_join(const char *folder, const char *name);   /* malloc'ed */
/* A path without "./" at its beginning, repeated slashes, components "." and a slash at its end;
 * malloc'ed. */
char *path_normalize(const char *given);
bool file_exists(const char *path);
bool file_is_regular(const char *path); /* or a link to such a file */
bool folder_exists(const char *path);
/* Takes the exclusive lock of the open folder `fd`, which its process holds until it closes it.
 * Waits for up to a second: a process that was killed holds its locks until the system has taken
 * back its memory, and may be started again at once. Returns 0, or -1 with errno, which is
 * EWOULDBLOCK if another process keeps the lock. */
int folder_lock(int fd);
/* Whether both name one regular file, by whatever names. */
bool files_are_same(const char *a, const char *b);
/* Names of what a program was started with. */
#define STANDARD_INPUT  "/dev/stdin"
#define STANDARD_OUTPUT "/dev/stdout"
#define STANDARD_ERROR  "/dev/stderr"
/* Looks for a file or folder called `name` next to the running program's executable, then in
 * `installed`, a path relative to that folder. Returns its malloc'ed path, or NULL if there is
 * none.
 */
char *find_beside_program(const char *name, const char *installed);

#endif
