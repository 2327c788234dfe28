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

/* Reads a whole file of at most `limit` bytes; *data is malloc'ed with one zero byte behind it. */
int file_read(uint8_t **data, size_t *size, const char *path, size_t limit, struct error *e);

/* A file that appears under its name only when complete: a temporary beside it, then fsync, rename
 * and fsync of the folder. An abandoned one leaves nothing behind. A symbolic link stays and what
 * it points to is replaced; devices and pipes are written to as they are. */
struct atomic_file {
    int fd;
    char *path, *temporary; /* temporary: NULL for a device or a pipe */
};
int atomic_file_open(struct atomic_file *f, const char *path, struct error *e);
int atomic_file_commit(struct atomic_file *f, struct error *e);
void atomic_file_abandon(struct atomic_file *f);

int make_directories(const char *path, struct error *e); /* mkdir -p */
char *path_join(const char *folder, const char *name);   /* malloc'ed */
bool file_exists(const char *path);
/* What is there in the folder of the running program's file, else in `installed`, a path from that
 * folder on; malloc'ed, NULL when it is in neither. */
char *find_beside_program(const char *name, const char *installed);

#endif
