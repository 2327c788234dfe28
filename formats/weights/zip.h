#ifndef CCLD_FORMATS_WEIGHTS_ZIP_H
#define CCLD_FORMATS_WEIGHTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/weights/arena.h"

/* Reads ZIP archives in memory (APPNOTE.TXT 6.3; with zip64, without encryption or multiple
 * volumes). Stored members are used in place; deflated ones are inflated into memory or, above
 * 1 MiB, into an unlinked temporary file that is mapped.
 *
 * This is not libzip or minizip because both hand out members through read calls: a stored
 * checkpoint of several gigabytes would be copied, while here its tensors point into the mapped
 * file. Reading the directory, with every offset checked against the file, takes less code than
 * bending a library to that; inflate itself is zlib's. */

struct zip_member {
    const char *name;
    uint64_t compressed_size, size, header_offset;
    uint32_t crc32;
    uint16_t method, flags;
    const uint8_t *data; /* set by zip_open_member */
};

struct zip {
    const uint8_t *data;
    size_t size;
    struct zip_member *members; /* in the order of the central directory */
    struct zip_member **by_name;
    size_t count;
    struct zip_inflated *inflated;
    struct arena arena;
};

bool zip_recognize(const uint8_t *data, size_t size);
/* data must outlive z. Release z even if this fails. */
int zip_read(struct zip *z, const uint8_t *data, size_t size, struct error *e);
void zip_release(struct zip *z);

struct zip_member *zip_find(const struct zip *z, const char *name); /* NULL: none */
/* Points m->data to the member's m->size bytes. CRCs are checked for deflated members only: stored
 * data are not read here. */
int zip_open_member(struct zip *z, struct zip_member *m, struct error *e);

#endif
