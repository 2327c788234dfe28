#include "formats/shards/path_set.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "common/base/message.h"

void content_hash(uint8_t hash[CONTENT_HASH_SIZE], const void *data, size_t size)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, size));
    memcpy(hash, canonical.digest, CONTENT_HASH_SIZE);
}

void path_key(uint8_t key[PATH_KEY_SIZE], const char *path)
{
    content_hash(key, path, strlen(path));
}

int path_part(const uint8_t key[PATH_KEY_SIZE], int parts)
{
    XXH128_canonical_t canonical;
    memcpy(canonical.digest, key, PATH_KEY_SIZE);
    return (int)(XXH128_hashFromCanonical(&canonical).low64 % (uint64_t)parts);
}

void path_set_init(struct path_set *s)
{
    *s = (struct path_set){.capacity = 1024};
    s->slots = xcalloc(s->capacity, sizeof *s->slots);
}

void path_set_release(struct path_set *s)
{
    free(s->slots);
    *s = (struct path_set){0};
}

static const uint8_t no_key[PATH_KEY_SIZE];

/* The slot that holds the key, or the free slot for it. Keys are hashes already. */
static uint8_t *find_slot(const struct path_set *s, const uint8_t key[PATH_KEY_SIZE])
{
    uint64_t hash;
    memcpy(&hash, key, sizeof hash);
    size_t mask = s->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask)
        if (memcmp(s->slots[i], no_key, PATH_KEY_SIZE) == 0 ||
            memcmp(s->slots[i], key, PATH_KEY_SIZE) == 0)
            return s->slots[i];
}

static void grow(struct path_set *s)
{
    struct path_set bigger = {.capacity = 2 * s->capacity};
    bigger.slots = xcalloc(bigger.capacity, sizeof *bigger.slots);
    for (size_t i = 0; i < s->capacity; i++)
        if (memcmp(s->slots[i], no_key, PATH_KEY_SIZE) != 0)
            memcpy(find_slot(&bigger, s->slots[i]), s->slots[i], PATH_KEY_SIZE);
    free(s->slots);
    s->slots = bigger.slots;
    s->capacity = bigger.capacity;
}

bool path_set_add(struct path_set *s, const uint8_t key[PATH_KEY_SIZE])
{
    if (memcmp(key, no_key, PATH_KEY_SIZE) == 0) {
        bool added = !s->has_zero_key;
        s->has_zero_key = true;
        return added;
    }
    uint8_t *slot = find_slot(s, key);
    if (memcmp(slot, key, PATH_KEY_SIZE) == 0)
        return false;
    memcpy(slot, key, PATH_KEY_SIZE);
    if (++s->count > s->capacity / 4 * 3)
        grow(s);
    return true;
}

bool path_set_has(const struct path_set *s, const uint8_t key[PATH_KEY_SIZE])
{
    if (memcmp(key, no_key, PATH_KEY_SIZE) == 0)
        return s->has_zero_key;
    return memcmp(find_slot(s, key), key, PATH_KEY_SIZE) == 0;
}
