#include "common/data/unreadable.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

enum { KNOWN = 1, MET = 2, AGREED = 4 };

struct unreadable {
    int64_t records;
    _Atomic uint8_t *flags; /* [records] */
    _Atomic int64_t agreed;
    pthread_mutex_t mutex;      /* guards what follows */
    struct unreadable_list met; /* not taken yet */
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
    unreadable_list_release(&u->met);
    free(u);
}

bool unreadable_add(struct unreadable *u, int64_t record)
{
    CHECK(record >= 0 && record < u->records);
    return !(atomic_fetch_or(&u->flags[record], KNOWN) & KNOWN);
}

bool unreadable_has(const struct unreadable *u, int64_t record)
{
    return atomic_load(&u->flags[record]) & KNOWN;
}

void unreadable_list_add(struct unreadable_list *l, int64_t record)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 16;
        l->items = xrealloc(l->items, (size_t)l->capacity * sizeof *l->items);
    }
    l->items[l->count++] = record;
}

void unreadable_list_release(struct unreadable_list *l)
{
    free(l->items);
    *l = (struct unreadable_list){0};
}

void unreadable_meet(struct unreadable *u, int64_t record)
{
    CHECK(record >= 0 && record < u->records);
    if (atomic_fetch_or(&u->flags[record], MET) & (MET | AGREED))
        return;
    pthread_mutex_lock(&u->mutex);
    unreadable_list_add(&u->met, record);
    pthread_mutex_unlock(&u->mutex);
}

void unreadable_meet_all(struct unreadable *u, const struct unreadable_list *l)
{
    for (int64_t i = 0; i < l->count; i++)
        unreadable_meet(u, l->items[i]);
}

int unreadable_take(struct unreadable *u, int64_t *records, int most)
{
    pthread_mutex_lock(&u->mutex);
    struct unreadable_list *l = &u->met;
    int n = l->count < most ? (int)l->count : most;
    if (n > 0) {
        memcpy(records, l->items, (size_t)n * sizeof *records);
        l->count -= n;
        memmove(l->items, l->items + n, (size_t)l->count * sizeof *l->items);
    }
    pthread_mutex_unlock(&u->mutex);
    return n;
}

int64_t unreadable_waiting(struct unreadable *u)
{
    pthread_mutex_lock(&u->mutex);
    int64_t count = u->met.count;
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
