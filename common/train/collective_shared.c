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

/* What each rank shows the others at a time. There are two slots per rank, used in turn, so that a
 * rank may fill one while others still read the other. */
#define SLOT_BYTES ((size_t)1 << 21)
#define GRAIN      16384 /* floats */

struct shared_room {
    pthread_barrier_t barrier;
    int size;
    _Atomic double waits_since[RANKS_MAX]; /* seconds_now; 0: does not wait */
    atomic_bool patient[RANKS_MAX];
    _Atomic double longest_wait;
    size_t bytes; /* of the mapping */
    /* [2][size][SLOT_BYTES] */
    _Alignas(64) unsigned char slots[];
};

struct rank {
    struct collective collective;
    struct shared_room *room;
    int turn; /* the slots to fill next */
};

struct shared_room *shared_room_new(int size)
{
    CHECK(size >= 1 && size <= RANKS_MAX);
    size_t bytes = sizeof(struct shared_room) + 2 * (size_t)size * SLOT_BYTES;
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
    return atomic_load(&room->waits_since[rank]) > 0;
}

double shared_room_waited(const struct shared_room *room, int rank, double since)
{
    double began = atomic_load(&room->waits_since[rank]);
    if (began == 0 || atomic_load(&room->patient[rank]))
        return 0;
    return seconds_now() - (began > since ? began : since);
}

double shared_room_longest_wait(const struct shared_room *room)
{
    return atomic_load(&room->longest_wait);
}

static void waiting(struct collective *c, bool on)
{
    struct shared_room *room = ((struct rank *)c)->room;
    if (on) {
        atomic_store(&room->waits_since[c->rank], seconds_now());
        return;
    }
    double waited = seconds_now() - atomic_exchange(&room->waits_since[c->rank], 0);
    if (waited > atomic_load(&room->longest_wait)) /* a lost race costs a little precision */
        atomic_store(&room->longest_wait, waited);
}

static void barrier(struct collective *c)
{
    waiting(c, true);
    pthread_barrier_wait(&((struct rank *)c)->room->barrier);
    waiting(c, false);
}

static void patient(struct collective *c, bool on)
{
    atomic_store(&((struct rank *)c)->room->patient[c->rank], on);
}

static void *slot(const struct collective *c, int rank)
{
    const struct rank *self = (const struct rank *)c;
    size_t number = (size_t)(self->turn * c->size + rank);
    return self->room->slots + number * SLOT_BYTES;
}

/* Ends the use of the present slots, which all have filled and read since the last call. */
static void next_slots(struct collective *c)
{
    ((struct rank *)c)->turn ^= 1;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void gather(struct collective *c, const void *own, void *all, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = least(bytes - at, SLOT_BYTES);
        memcpy(slot(c, c->rank), (const char *)own + at, n);
        barrier(c);
        for (int r = 0; r < c->size; r++)
            memcpy((char *)all + (size_t)r * bytes + at, slot(c, r), n);
        next_slots(c);
    }
}

static void broadcast(struct collective *c, int root, void *data, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SLOT_BYTES) {
        size_t n = least(bytes - at, SLOT_BYTES);
        if (c->rank == root)
            memcpy(slot(c, root), (char *)data + at, n);
        barrier(c);
        if (c->rank != root)
            memcpy((char *)data + at, slot(c, root), n);
        next_slots(c);
    }
}

static int64_t longest_slice(const int64_t *bounds, int count)
{
    int64_t longest = 0;
    for (int s = 0; s < count; s++)
        if (bounds[s + 1] - bounds[s] > longest)
            longest = bounds[s + 1] - bounds[s];
    return longest;
}

/* Elements [at, at + part) of all slices; a slot holds `part` floats of each. */
struct summation {
    const struct collective *c;
    const struct sum_slices_args *args;
    int64_t at, part;
};

/* Of slice s, how many of the elements `at` and following there are, at most `most`. */
static int64_t left_of(const struct summation *j, int s, int64_t at, int64_t most)
{
    int64_t left = j->args->bounds[s + 1] - j->args->bounds[s] - at;
    return left < 0 ? 0 : left < most ? left : most;
}

/* begin, end: positions in the slot. */
static void show_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct summation *j = arg;
    float *mine = slot(j->c, j->c->rank);
    while (begin < end) {
        int s = (int)(begin / j->part);
        int64_t i = begin % j->part, n = end - begin < j->part - i ? end - begin : j->part - i;
        int64_t there = left_of(j, s, j->at + i, n);
        if (s != j->c->shard && there > 0)
            memcpy(mine + begin, j->args->own + j->args->bounds[s] + j->at + i,
                   (size_t)there * sizeof *mine);
        begin += n;
    }
}

static void add_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct summation *j = arg;
    const struct collective *c = j->c;
    float *total = j->args->total + j->at;
    for (int r = 0; r < c->size; r++) {
        const float *x = r == c->rank ? j->args->own + j->args->bounds[c->shard] + j->at
                                      : (const float *)slot(c, r) + c->shard * j->part;
        if (j->args->first && r == 0)
            memcpy(total + begin, x + begin, (size_t)(end - begin) * sizeof *x);
        else
            for (int64_t i = begin; i < end; i++)
                total[i] += x[i];
    }
}

static void sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    CHECK(d->host_memory);
    int64_t longest = longest_slice(a->bounds, c->shards);
    struct summation j = {.c = c, .args = a};
    j.part = (int64_t)(SLOT_BYTES / sizeof(float)) / c->shards;
    for (j.at = 0; j.at < longest; j.at += j.part) {
        parallel_for(j.part * c->shards, GRAIN, show_some, &j);
        barrier(c);
        parallel_for(left_of(&j, c->shard, j.at, j.part), GRAIN, add_some, &j);
        next_slots(c);
    }
}

static void share_slices(struct collective *c, struct device *d, const struct share_slices_args *a)
{
    CHECK(d->host_memory);
    size_t longest = (size_t)longest_slice(a->bounds, c->shards) * a->element;
    for (size_t at = 0; at < longest; at += SLOT_BYTES)
        for (int pass = 0; pass < 2; pass++) {
            for (int r = 0; r < c->size; r++) {
                size_t bytes = (size_t)(a->bounds[r + 1] - a->bounds[r]) * a->element;
                size_t n = at < bytes ? least(bytes - at, SLOT_BYTES) : 0;
                char *there = (char *)a->whole + (size_t)a->bounds[r] * a->element + at;
                if (pass == 0 && r == c->rank)
                    memcpy(slot(c, r), there, n);
                else if (pass == 1 && r != c->rank)
                    memcpy(there, slot(c, r), n);
            }
            if (pass == 0)
                barrier(c);
            else
                next_slots(c);
        }
}

static void close_rank(struct collective *c)
{
    free(c);
}

struct collective *collective_shared(struct shared_room *room, int rank)
{
    static const struct collective_functions functions = {
        .name = "shared",
        .gather = gather,
        .broadcast = broadcast,
        .sum_slices = sum_slices,
        .share_slices = share_slices,
        .barrier = barrier,
        .patient = patient,
        .waiting = waiting,
        .close = close_rank,
    };
    CHECK(rank >= 0 && rank < room->size);
    struct rank *self = xcalloc(1, sizeof *self);
    self->room = room;
    self->collective = (struct collective){
        .functions = &functions,
        .rank = rank,
        .size = room->size,
        .shard = rank,
        .shards = room->size,
    };
    return &self->collective;
}
