#ifndef CCLD_FORMATS_BYTES_H
#define CCLD_FORMATS_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* A growing byte buffer, for formats that are assembled in memory. {0} is an empty one. */
struct bytes {
    uint8_t *data;
    size_t size, capacity;
};

void bytes_put(struct bytes *b, const void *data, size_t size);
void bytes_put_text(struct bytes *b, const char *s); /* without the zero at its end */
/* The low `size` bytes of value, at most 8, little-endian. */
void bytes_put_number(struct bytes *b, uint64_t value, int size);
void bytes_release(struct bytes *b); /* frees the data and zeroes b */

#endif
