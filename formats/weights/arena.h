#ifndef CCLD_FORMATS_WEIGHTS_ARENA_H
#define CCLD_FORMATS_WEIGHTS_ARENA_H

#include <stddef.h>

/* Memory that is freed all at once, for the parts of a parsed file. Initialize with {0}. */
struct arena {
    struct arena_block *blocks;
    unsigned char *next;
    size_t left;
};

/* Aligned to 16 bytes, uninitialized, never NULL. */
void *arena_allocate(struct arena *a, size_t size);
/* Copies size bytes and appends a zero byte. */
char *arena_text(struct arena *a, const void *text, size_t size);
void arena_release(struct arena *a);

#endif
