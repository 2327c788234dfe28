#include "formats/weights/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

#define BLOCK_BYTES ((size_t)32 << 10)
#define ALIGNMENT   ((size_t)16)

struct arena_block {
    _Alignas(ALIGNMENT) struct arena_block *previous;
    _Alignas(ALIGNMENT) unsigned char bytes[];
};

static struct arena_block *new_block(struct arena *a, size_t size)
{
    CHECK(size <= SIZE_MAX - sizeof(struct arena_block));
    struct arena_block *b = xmalloc(sizeof *b + size);
    b->previous = a->blocks;
    a->blocks = b;
    return b;
}

void *arena_allocate(struct arena *a, size_t size)
{
    CHECK(size <= SIZE_MAX - ALIGNMENT);
    size = (size / ALIGNMENT + (size % ALIGNMENT > 0 || size == 0)) * ALIGNMENT;
    if (size > BLOCK_BYTES / 4)
        return new_block(a, size)->bytes;
    if (size > a->left) {
        a->next = new_block(a, BLOCK_BYTES)->bytes;
        a->left = BLOCK_BYTES;
    }
    void *p = a->next;
    a->next += size;
    a->left -= size;
    return p;
}

char *arena_text(struct arena *a, const void *text, size_t size)
{
    CHECK(size < SIZE_MAX);
    char *copy = arena_allocate(a, size + 1);
    if (size > 0)
        memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}

void arena_release(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *previous = a->blocks->previous;
        free(a->blocks);
        a->blocks = previous;
    }
    *a = (struct arena){0};
}
