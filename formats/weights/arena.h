#ifndef CCLD_FORMATS_WEIGHTS_ARENA_H
#define CCLD_FORMATS_WEIGHTS_ARENA_H

#include <stddef.h>

/* Memory that is given back all at once: what a parsed file is made of. Zero-initialise to start.
 */
struct arena {
    struct arena_block *blocks;
    unsigned char *next;
    size_t left;
};

void *arena_allocate(struct arena *a, size_t size); /* aligned to 16, uninitialised, never NULL */
/* size bytes of text and a zero behind them. */
char *arena_text(struct arena *a, const void *text, size_t size);
void arena_release(struct arena *a);

#endif
