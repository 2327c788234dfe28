#include "common/data/unreadable.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

enum { KNOWN = 1, AGREED = 2 };

struct unreadable {
    int64_t records;
    _Atomic uint8_t *flags; /* [records], KNOWN | AGREED */
    _Atomic int64_t agreed;
    pthread_mutex_t mutex; /* guards what follows */
    int64_t *found;        /* not taken yet */
    int64_t count, capacity;
};

struct unreadable *unreadable_new(int64_t records)
{
    struct unreadable *u = xcalloc(1, sizeof *u);
    u->records = records;
    u->flags = xcalloc((size_t)records, sizeof *u->flags);
    pthread_mutex_init(&u->mutex, NULL);
    return u;
}

void unreadable_free(struct unreadable *u)
{
    if (!u)
        return;
    pthread_mutex_destroy(&u->mutex);
    free((void *)u->flags);
    free(u->found);
    free(u);
}

bool unreadable_add(struct unreadable *u, int64_t record)
{
    CHECK(record >= 0 && record < u->records);
    if (atomic_fetch_or(&u->flags[record], KNOWN) & KNOWN)
        return false;
    pthread_mutex_lock(&u->mutex);
    if (u->count == u->capacity) {
        u->capacity = u->capacity ? 2 * u->capacity : 16;
        u->found = xrealloc(u->found, (size_t)u->capacity * sizeof *u->found);
    }
    u->found[u->count++] = record;
    pthread_mutex_unlock(&u->mutex);
    return true;
}

bool unreadable_has(const struct unreadable *u, int64_t record)
{
    return atomic_load(&u->flags[record]) & KNOWN;
}

int unreadable_take(struct unreadable *u, int64_t *records, int most)
{
    pthread_mutex_lock(&u->mutex);
    int n = u->count < most ? (int)u->count : most;
    if (n > 0) {
        memcpy(records, u->found, (size_t)n * sizeof *records);
        u->count -= n;
        memmove(u->found, u->found + n, (size_t)u->count * sizeof *u->found);
    }
    pthread_mutex_unlock(&u->mutex);
    return n;
}

int64_t unreadable_waiting(struct unreadable *u)
{
    pthread_mutex_lock(&u->mutex);
    int64_t count = u->count;
    pthread_mutex_unlock(&u->mutex);
    return count;
}

void unreadable_agree(struct unreadable *u, int64_t record)
{
    CHECK(record >= 0 && record < u->records);
    if (!(atomic_fetch_or(&u->flags[record], KNOWN | AGREED) & AGREED))
        atomic_fetch_add(&u->agreed, 1);
}

int64_t unreadable_agreed(const struct unreadable *u)
{
    return atomic_load(&u->agreed);
}
