#include "common/base/write_all.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

int write_all(int fd, const void *buf, size_t size, struct error *e)
{
    const uint8_t *p = buf;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_set(e, "%s", strerror(errno));
        }
        p += n;
        size -= (size_t)n;
    }
    return 0;
}
