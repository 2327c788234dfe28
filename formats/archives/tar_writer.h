#ifndef CCLD_FORMATS_ARCHIVES_TAR_WRITER_H
#define CCLD_FORMATS_ARCHIVES_TAR_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Writes a tar (POSIX ustar) of small regular files. */

/* One member. name: up to 99 bytes. Times are 0 and modes 0644, so that the same members make the
 * same tar. */
int tar_write_member(int fd, const char *name, const void *data, size_t size, struct error *e);
/* The two blocks at the end. */
int tar_write_end(int fd, struct error *e);

#endif
