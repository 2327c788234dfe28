#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include <zstd.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

/* RFC 8878, 3.1.2: a skippable frame is a magic number of 0x184D2A50 to 5F, the size of its
 * content, both 4 bytes little-endian, and the content. */
#define MAGIC  0x184D2A5Cu
#define HEADER 8
/* After the path: its XXH3-64, canonical, and the size of the whole frame, which leads from the end
 * of the value to its begin. */
#define HASH    8
#define TRAILER (HASH + 4)

static void put_le32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_le32(const uint8_t *in)
{
    return in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static void hash_of(uint8_t out[HASH], const void *path, size_t length)
{
    XXH64_canonical_t canonical;
    XXH64_canonicalFromHash(&canonical, XXH3_64bits(path, length));
    memcpy(out, canonical.digest, HASH);
}

void shard_label_append(uint8_t **value, size_t *size, const char *path)
{
    size_t length = strlen(path), label = HEADER + length + TRAILER;
    *value = xrealloc(*value, *size + label);
    uint8_t *out = *value + *size;
    put_le32(out, MAGIC);
    put_le32(out + 4, (uint32_t)(label - HEADER));
    memcpy(out + HEADER, path, length);
    hash_of(out + HEADER + length, path, length);
    put_le32(out + label - 4, (uint32_t)label);
    *size += label;
}

/* The path within the value, not terminated; NULL: no label, or a damaged one. */
static const uint8_t *find(size_t *length, const MDB_val *value)
{
    const uint8_t *end = (const uint8_t *)value->mv_data + value->mv_size;
    uint8_t hash[HASH];
    if (value->mv_size < HEADER + TRAILER)
        return NULL;
    size_t label = get_le32(end - 4);
    if (label <= HEADER + TRAILER || label > value->mv_size)
        return NULL;
    const uint8_t *begin = end - label;
    *length = label - HEADER - TRAILER;
    hash_of(hash, begin + HEADER, *length);
    bool whole = get_le32(begin) == MAGIC && get_le32(begin + 4) == label - HEADER &&
                 memcmp(hash, end - TRAILER, HASH) == 0 && !memchr(begin + HEADER, 0, *length);
    return whole ? begin + HEADER : NULL;
}

enum shard_label shard_label_read(char **path, const MDB_val *value)
{
    size_t length, frame;
    const uint8_t *found = find(&length, value);
    if (found) {
        *path = memcpy(xrealloc(*path, length + 1), found, length);
        (*path)[length] = 0;
        return SHARD_LABEL_FOUND;
    }
    frame = ZSTD_findFrameCompressedSize(value->mv_data, value->mv_size);
    return frame == value->mv_size ? SHARD_LABEL_NONE : SHARD_LABEL_DAMAGED;
}
