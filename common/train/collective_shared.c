#include "common/train/collective_shared.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/threads.h"

#define SLOT_FLOATS ((size_t)1 << 18) /* of each rank: what it shows the others at a time */
#define SLOT_BYTES  (SLOT_FLOATS * sizeof(float))
#define GRAIN       16384 /* floats */

struct shared_room {
    pthread_barrier_t barrier;
    int size;
    atomic_bool waits[RANKS_MAX];
    _Atomic double longest_wait;
    size_t bytes;  /* of the mapping */
    float slots[]; /* [size][SLOT_FLOATS] */
};

struct shared_room *shared_room_new(int size)
{
    CHECK(size >= 1 && size <= RANKS_MAX);
    size_t bytes = sizeof(struct shared_room) + (size_t)size * SLOT_BYTES;
    struct shared_room *room =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        die("cannot share memory between %d ranks: %s", size, strerror(errno));
    pthread_barrierattr_t attributes;
    CHECK(pthread_barrierattr_init(&attributes) == 0);
    CHECK(pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_barrier_init(&room->barrier, &attributes, (unsigned)size) == 0);
    pthread_barrierattr_destroy(&attributes);
    room->size = size;
    room->bytes = bytes;
    return room;
}

void shared_room_free(struct shared_room *room)
{
    if (room)
        munmap(room, room->bytes);
}

bool shared_room_waits(const struct shared_room *room, int rank)
{
    return atomic_load(&room->waits[rank]);
}

double shared_room_longest_wait(const struct shared_room *room)
{
    return atomic_load(&room->longest_wait);
}

static void barrier(struct collective *c)
{
    struct shared_room *room = c->state;
    double begin = seconds_now();
    atomic_store(&room->waits[c->rank], true);
    pthread_barrier_wait(&room->barrier);
    atomic_store(&room->waits[c->rank], false);
    double waited = seconds_now() - begin;
    if (waited > atomic_load(&room->longest_wait)) /* a lost race costs a little precision */
        atomic_store(&room->longest_wait, waited);
}

static float *slot(const struct collective *c, int rank)
{
    struct shared_room *room = c->state;
    return room->slots + (size_t)rank * SLOT_FLOATS;
}

static void gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = bytes - at < SLOT_BYTES ? bytes - at : SLOT_BYTES;
        memcpy(slot(c, c->rank), (const char *)own + at, n);
        barrier(c);
        for (int r = 0; r < c->size; r++)
            memcpy((char *)all + (size_t)r * bytes + at, slot(c, r), n);
        barrier(c);
    }
}

struct addition {
    const struct collective *c;
    float *total;
    bool first;
};

static void add_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct addition *a = arg;
    for (int r = 0; r < a->c->size; r++) {
        const float *x = slot(a->c, r);
        if (a->first && r == 0)
            memcpy(a->total + begin, x + begin, (size_t)(end - begin) * sizeof *x);
        else
            for (int64_t i = begin; i < end; i++)
                a->total[i] += x[i];
    }
}

static void add_in_order(struct collective *c, struct tensor *total, const struct tensor *own,
                         bool first)
{
    CHECK(total->device->host_memory);
    size_t count = (size_t)tensor_count(total);
    for (size_t at = 0; at < count; at += SLOT_FLOATS) {
        size_t n = count - at < SLOT_FLOATS ? count - at : SLOT_FLOATS;
        struct addition a = {c, (float *)total->data + at, first};
        memcpy(slot(c, c->rank), (const float *)own->data + at, n * sizeof(float));
        barrier(c);
        parallel_for((int64_t)n, GRAIN, add_some, &a);
        barrier(c);
    }
}

static void close_rank(struct collective *c)
{
    free(c);
}

struct collective *collective_shared(struct shared_room *room, int rank)
{
    static const struct collective_functions functions = {.name = "shared",
                                                          .gather = gather,
                                                          .add = add_in_order,
                                                          .barrier = barrier,
                                                          .close = close_rank};
    CHECK(rank >= 0 && rank < room->size);
    struct collective *c = xmalloc(sizeof *c);
    *c = (struct collective){
        .functions = &functions, .rank = rank, .size = room->size, .state = room};
    return c;
}
