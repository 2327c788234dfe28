#ifndef CCLD_FORMATS_SHARDS_PATH_SET_H
#define CCLD_FORMATS_SHARDS_PATH_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The key of a path: the XXH3-128 hash of its bytes in XXH128's canonical (big-endian) order. Two
 * spellings of the same file are two paths. */
#define PATH_KEY_SIZE 16
void path_key(uint8_t key[PATH_KEY_SIZE], const char *path);
/* The part, 0 to parts - 1, of a list divided into `parts` that the path with this key falls to:
 * the low 64 bits of the hash modulo parts. */
int path_part(const uint8_t key[PATH_KEY_SIZE], int parts);

/* What tells images with the same bytes: the XXH3-128 hash of a file, or of an archive's member, in
 * the same order. */
#define CONTENT_HASH_SIZE 16
void content_hash(uint8_t hash[CONTENT_HASH_SIZE], const void *data, size_t size);

/* A growing set of keys: an open-addressing table of 16-byte slots, at most 3/4 full. */
struct path_set {
    uint8_t (*slots)[PATH_KEY_SIZE]; /* all zeros: free */
    size_t capacity, count;
    bool has_zero_key;
};
void path_set_init(struct path_set *s);
void path_set_release(struct path_set *s);
bool path_set_add(struct path_set *s, const uint8_t key[PATH_KEY_SIZE]); /* false: already there */
bool path_set_has(const struct path_set *s, const uint8_t key[PATH_KEY_SIZE]);

#endif
