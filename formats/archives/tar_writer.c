#include "formats/archives/tar_writer.h"

#include <stdio.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/write_all.h"

#define BLOCK 512

/* POSIX.1-2017, pax, "ustar Interchange Format": numbers are octal, zero-terminated. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a block");

int tar_write_member(int fd, const char *name, const void *data, size_t size, struct error *e)
{
    static const uint8_t zeros[BLOCK];
    struct header h = {.type = '0', .magic = "ustar", .version = {'0', '0'}};
    CHECK(strlen(name) < sizeof h.name && size < (size_t)1 << 33);
    strcpy(h.name, name);
    strcpy(h.mode, "0000644");
    strcpy(h.uid, "0000000");
    strcpy(h.gid, "0000000");
    snprintf(h.size, sizeof h.size, "%011zo", size);
    strcpy(h.mtime, "00000000000");
    memset(h.checksum, ' ', sizeof h.checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof h; i++)
        sum += ((const uint8_t *)&h)[i];
    snprintf(h.checksum, sizeof h.checksum, "%06o", sum); /* a zero, then the space that is there */
    size_t padding = (BLOCK - size % BLOCK) % BLOCK;
    if (write_all(fd, &h, sizeof h, e) != 0 || write_all(fd, data, size, e) != 0)
        return -1;
    return write_all(fd, zeros, padding, e);
}

int tar_write_end(int fd, struct error *e)
{
    static const uint8_t zeros[2 * BLOCK];
    return write_all(fd, zeros, sizeof zeros, e);
}
