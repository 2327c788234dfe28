#ifndef CCLD_FORMATS_WEIGHTS_ZIP_H
#define CCLD_FORMATS_WEIGHTS_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/weights/arena.h"

/* Reads ZIP archives from memory (APPNOTE.TXT 6.3, zip64 included, no encryption, one volume).
 * Stored members are pointed into, deflated ones go to an unlinked temporary file that is mapped.
 */

struct zip_member {
    const char *name;
    uint64_t compressed_size, size, header_offset;
    uint32_t crc32;
    uint16_t method, flags;
    const uint8_t *data; /* once zip_open_member was called */
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

bool zip_recognise(const uint8_t *data, size_t size);
/* data must outlive z. Release z also after failure. */
int zip_read(struct zip *z, const uint8_t *data, size_t size, struct error *e);
void zip_release(struct zip *z);

struct zip_member *zip_find(const struct zip *z, const char *name); /* NULL: none */
/* Makes m->data point to the member's m->size bytes. CRCs are checked of deflated members only:
 * stored tensors are not read here. */
int zip_open_member(struct zip *z, struct zip_member *m, struct error *e);

#endif
