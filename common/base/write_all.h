#ifndef CCLD_BASE_WRITE_ALL_H
#define CCLD_BASE_WRITE_ALL_H

#include <stddef.h>

#include "common/base/error.h"

/* Writes size bytes of buf to fd, retrying after EINTR and short writes. Returns -1 on an error. */
int write_all(int fd, const void *buf, size_t size, struct error *e);

#endif
