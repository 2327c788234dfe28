#include "kernels/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#include "common/base/message.h"

#define GRAIN        ((size_t)256)
#define REGION_LEAST ((size_t)16 << 20)
/* Idle regions are returned before the total exceeds peak use by more than this. */
#define IDLE_SLACK ((size_t)256 << 20)

struct block {
    char *data;
    size_t bytes;
    bool idle;
    struct block *before, *after; /* neighbors in the same region */
    struct block *next;           /* in its slot of the table of used blocks */
};

struct pool {
    struct device *device;
    bool keeps;          /* idle regions are not returned */
    bool poisons;        /* marks idle host memory for the address sanitizer */
    struct block **idle; /* by size, then address */
    size_t idle_count, idle_capacity;
    struct block **slots; /* blocks in use, by address */
    size_t slot_count, used_count;
    size_t planned; /* see pool_plan */
    struct device_memory memory;
};

static size_t slot_of(const struct pool *p, const void *data)
{
    uint64_t x = (uint64_t)(uintptr_t)data / GRAIN;
    return (size_t)(x * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (p->slot_count - 1);
}

static void grow_table(struct pool *p)
{
    struct block **old = p->slots;
    size_t count = p->slot_count;
    p->slot_count = count ? 2 * count : 256;
    p->slots = xcalloc(p->slot_count, sizeof(struct block *));
    for (size_t i = 0; i < count; i++) {
        while (old[i]) {
            struct block *b = old[i];
            old[i] = b->next;
            size_t slot = slot_of(p, b->data);
            b->next = p->slots[slot];
            p->slots[slot] = b;
        }
    }
    free(old);
}

static void table_add(struct pool *p, struct block *b)
{
    if (p->used_count >= p->slot_count)
        grow_table(p);
    size_t slot = slot_of(p, b->data);
    b->next = p->slots[slot];
    p->slots[slot] = b;
    p->used_count++;
}

static struct block *table_remove(struct pool *p, const void *data)
{
    CHECK(p->used_count > 0);
    struct block **at = &p->slots[slot_of(p, data)];
    while (*at && (*at)->data != data)
        at = &(*at)->next;
    struct block *b = *at;
    CHECK(b);
    *at = b->next;
    p->used_count--;
    return b;
}

static bool is_before(const struct block *b, size_t bytes, const char *data)
{
    return b->bytes != bytes ? b->bytes < bytes : (uintptr_t)b->data < (uintptr_t)data;
}

/* The position of the first idle block not before one of this size and address. */
static size_t idle_position(const struct pool *p, size_t bytes, const char *data)
{
    size_t low = 0, high = p->idle_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (is_before(p->idle[middle], bytes, data))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void idle_add(struct pool *p, struct block *b)
{
    if (p->idle_count == p->idle_capacity) {
        p->idle_capacity = p->idle_capacity ? 2 * p->idle_capacity : 64;
        p->idle = xrealloc(p->idle, p->idle_capacity * sizeof(struct block *));
    }
    size_t i = idle_position(p, b->bytes, b->data);
    memmove(p->idle + i + 1, p->idle + i, (p->idle_count - i) * sizeof(struct block *));
    p->idle[i] = b;
    p->idle_count++;
    p->memory.idle += b->bytes;
    b->idle = true;
}

static void idle_remove(struct pool *p, struct block *b)
{
    size_t i = idle_position(p, b->bytes, b->data);
    CHECK(i < p->idle_count && p->idle[i] == b);
    p->idle_count--;
    memmove(p->idle + i, p->idle + i + 1, (p->idle_count - i) * sizeof(struct block *));
    p->memory.idle -= b->bytes;
    b->idle = false;
}

/* Shrinks b, which is not idle, to `bytes`; the rest becomes an idle block. */
static void split(struct pool *p, struct block *b, size_t bytes)
{
    if (b->bytes == bytes)
        return;
    struct block *rest = xcalloc(1, sizeof *rest);
    *rest = (struct block){
        .data = b->data + bytes, .bytes = b->bytes - bytes, .before = b, .after = b->after};
    if (rest->after)
        rest->after->before = rest;
    b->after = rest;
    b->bytes = bytes;
    idle_add(p, rest);
}

/* Merges b with the block after it. */
static void join(struct block *b)
{
    struct block *gone = b->after;
    b->bytes += gone->bytes;
    b->after = gone->after;
    if (b->after)
        b->after->before = b;
    free(gone);
}

static struct block *new_region(struct pool *p, size_t bytes)
{
    struct device *d = p->device;
    size_t region = bytes > REGION_LEAST ? bytes : REGION_LEAST;
    size_t wanted = p->memory.in_use + p->memory.idle + region;
    if (wanted > p->memory.peak + IDLE_SLACK || (p->planned && wanted > p->planned))
        pool_trim(p);
    void *data = d->backend->allocate(d, region);
    if (!data) {
        pool_trim(p);
        region = bytes;
        data = d->backend->allocate(d, region);
    }
    if (!data)
        return NULL;
    struct block *b = xcalloc(1, sizeof *b);
    *b = (struct block){.data = data, .bytes = region};
    if (p->poisons)
        ASAN_POISON_MEMORY_REGION(b->data, b->bytes);
    size_t taken = p->memory.in_use + p->memory.idle + region;
    if (taken > p->memory.taken)
        p->memory.taken = taken;
    return b;
}

struct pool *pool_new(struct device *d)
{
    struct pool *p = xcalloc(1, sizeof *p);
    p->device = d;
    p->poisons = d->host_memory;
    return p;
}

void pool_plan(struct pool *p, size_t bytes)
{
    p->planned = bytes;
}

void pool_keep(struct pool *p)
{
    p->keeps = true;
}

void pool_free(struct pool *p)
{
    p->keeps = false;
    pool_trim(p);
    free(p->idle);
    free(p->slots);
    free(p);
}

void *pool_take(struct pool *p, size_t bytes, size_t *granted)
{
    bytes = bytes ? (bytes + GRAIN - 1) / GRAIN * GRAIN : GRAIN;
    size_t i = idle_position(p, bytes, NULL);
    struct block *b = i < p->idle_count ? p->idle[i] : NULL;
    if (b)
        idle_remove(p, b);
    else
        b = new_region(p, bytes);
    if (!b)
        return NULL;
    split(p, b, bytes);
    table_add(p, b);
    p->memory.in_use += bytes;
    if (p->memory.in_use > p->memory.peak)
        p->memory.peak = p->memory.in_use;
    if (p->poisons)
        ASAN_UNPOISON_MEMORY_REGION(b->data, bytes);
    *granted = bytes;
    return b->data;
}

void pool_give(struct pool *p, void *data, size_t granted)
{
    struct block *b = table_remove(p, data);
    CHECK(b->bytes == granted);
    p->memory.in_use -= b->bytes;
    if (p->poisons)
        ASAN_POISON_MEMORY_REGION(b->data, b->bytes);
    if (b->after && b->after->idle) {
        idle_remove(p, b->after);
        join(b);
    }
    if (b->before && b->before->idle) {
        b = b->before;
        idle_remove(p, b);
        join(b);
    }
    idle_add(p, b);
}

void pool_trim(struct pool *p)
{
    struct device *d = p->device;
    size_t kept = 0;
    if (p->keeps)
        return;
    for (size_t i = 0; i < p->idle_count; i++) {
        struct block *b = p->idle[i];
        if (b->before || b->after) {
            p->idle[kept++] = b;
            continue;
        }
        p->memory.idle -= b->bytes;
        if (p->poisons)
            ASAN_UNPOISON_MEMORY_REGION(b->data, b->bytes);
        d->backend->deallocate(d, b->data);
        free(b);
    }
    p->idle_count = kept;
}

struct device_memory pool_memory(const struct pool *p)
{
    return p->memory;
}
