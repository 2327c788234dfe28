#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/base/message.h"
#include "tests/fuzz/support/fuzz.h"

size_t mutate_safetensors(uint8_t *data, size_t size, size_t max_size)
{
    uint64_t header;
    if (size < sizeof header + 2 || data[sizeof header] != '{')
        return 0;
    memcpy(&header, data, sizeof header);
    if (header == 0 || header > size - sizeof header)
        return 0;
    size_t rest = size - sizeof header - (size_t)header;
    uint8_t *tail = xmalloc(rest + 1);
    memcpy(tail, data + size - rest, rest);
    size_t changed =
        LLVMFuzzerMutate(data + sizeof header, (size_t)header, max_size - sizeof header - rest);
    header = changed;
    memcpy(data, &header, sizeof header);
    memcpy(data + sizeof header + changed, tail, rest);
    free(tail);
    return sizeof header + changed + rest;
}

void mend_png(uint8_t *data, size_t size)
{
    if (size < 8 || memcmp(data, "\x89PNG", 4) != 0)
        return;
    for (size_t at = 8; at + 12 <= size;) {
        uint8_t *p = data + at;
        size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (length > size - at - 12)
            return;
        uLong crc = crc32(0, p + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++)
            p[8 + length + (size_t)i] = (uint8_t)(crc >> 8 * (3 - i));
        at += length + 12;
    }
}

static size_t get(const uint8_t *p, int bytes)
{
    size_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (size_t)p[i] << 8 * i;
    return value;
}

static void put32(uint8_t *p, size_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

/* Of the bytes at data; returns how many they inflate to, at most a mebibyte, and their CRC. */
static size_t inflated(uLong *crc, uint8_t *data, size_t size)
{
    z_stream stream = {.next_in = data, .avail_in = (uInt)size};
    uint8_t buffer[4096];
    size_t total = 0;
    int code = Z_OK;
    *crc = crc32(0, NULL, 0);
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return 0;
    while (code == Z_OK && total < (size_t)1 << 20) {
        stream.next_out = buffer;
        stream.avail_out = sizeof buffer;
        code = inflate(&stream, Z_NO_FLUSH);
        size_t n = sizeof buffer - stream.avail_out;
        *crc = crc32(*crc, buffer, (uInt)n);
        total += n;
    }
    inflateEnd(&stream);
    return total;
}

/* Entries of the central directory (APPNOTE.TXT 4.3.12). */
void mend_zip(uint8_t *data, size_t size)
{
    if (size < 46 || memcmp(data, "PK\3\4", 4) != 0)
        return;
    for (size_t at = 0; at + 46 <= size; at++) {
        uint8_t *entry = data + at;
        if (memcmp(entry, "PK\1\2", 4) != 0 || get(entry + 10, 2) != 8)
            continue;
        size_t local = get(entry + 42, 4), compressed = get(entry + 20, 4);
        if (local + 30 > size)
            continue;
        size_t begin = local + 30 + get(data + local + 26, 2) + get(data + local + 28, 2);
        if (begin > size || compressed > size - begin)
            continue;
        uLong crc;
        size_t n = inflated(&crc, data + begin, compressed);
        put32(entry + 16, crc);
        put32(entry + 24, n);
    }
}
