#include "formats/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

void bytes_put(struct bytes *b, const void *data, size_t size)
{
    CHECK(size < SIZE_MAX / 4 && b->size < SIZE_MAX / 4);
    if (size > b->capacity - b->size) {
        b->capacity = 2 * (b->size + size) + 256;
        b->data = xrealloc(b->data, b->capacity);
    }
    if (size > 0)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

void bytes_put_text(struct bytes *b, const char *s)
{
    bytes_put(b, s, strlen(s));
}

void bytes_put_number(struct bytes *b, uint64_t value, int size)
{
    uint8_t out[8];
    for (int i = 0; i < size; i++)
        out[i] = (uint8_t)(value >> 8 * i);
    bytes_put(b, out, (size_t)size);
}

void bytes_release(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}
