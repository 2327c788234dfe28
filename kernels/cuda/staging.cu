#include "kernels/cuda/staging.cuh"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

/* Small copies share a slot with those before and after them. Larger ones are split into pieces of
 * a slot each, copied by a few threads: a single thread cannot saturate the bus, least of all if it
 * reads a mapped file. Slot k * SLOTS_EACH + j belongs to thread k. */
#define SLOT_BYTES  STAGING_PIECE
#define SLOTS_EACH  3
#define THREADS     4
#define SLOTS       (SLOTS_EACH * THREADS)
#define ALIGN_BYTES ((size_t)256)
static_assert(SLOTS * SLOT_BYTES == STAGING_ROOM, "a place on the device for each slot");

struct slot {
    char *data;
    cudaEvent_t passed; /* recorded after the GPU's last copy out of this slot */
    bool pending;       /* `passed` is still to be waited for */
    cudaEvent_t used;   /* recorded after the last use of this slot's place on the device */
};

struct staging {
    int index;
    cudaStream_t stream;
    cudaStream_t bus;  /* copies of staging_pass run beside the stream's work */
    cudaEvent_t begun; /* what the stream did before a staging_pass */
    char *memory;
    struct slot slots[SLOTS];
    int current; /* slot for small copies */
    size_t used; /* bytes of it in use */
    cudaEvent_t fetched;
};

struct staging *staging_new(int index, cudaStream_t stream)
{
    struct staging *s = (struct staging *)calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->index = index;
    s->stream = stream;
    if (cudaMallocHost((void **)&s->memory, SLOTS * SLOT_BYTES) != cudaSuccess) {
        cudaGetLastError();
        free(s);
        return NULL;
    }
    cuda_check(cudaStreamCreateWithFlags(&s->bus, cudaStreamNonBlocking));
    cuda_check(cudaEventCreateWithFlags(&s->begun, cudaEventDisableTiming));
    cuda_check(cudaEventCreateWithFlags(&s->fetched, cudaEventDisableTiming));
    for (int i = 0; i < SLOTS; i++) {
        s->slots[i].data = s->memory + (size_t)i * SLOT_BYTES;
        cuda_check(cudaEventCreateWithFlags(&s->slots[i].passed, cudaEventDisableTiming));
        cuda_check(cudaEventCreateWithFlags(&s->slots[i].used, cudaEventDisableTiming));
    }
    return s;
}

void staging_free(struct staging *s)
{
    if (!s)
        return;
    for (int i = 0; i < SLOTS; i++) {
        cuda_check(cudaEventDestroy(s->slots[i].passed));
        cuda_check(cudaEventDestroy(s->slots[i].used));
    }
    cuda_check(cudaEventDestroy(s->fetched));
    cuda_check(cudaEventDestroy(s->begun));
    cuda_check(cudaStreamDestroy(s->bus));
    cuda_check(cudaFreeHost(s->memory));
    free(s);
}

/* Waits until the GPU has finished with this slot. */
static void claim(struct slot *slot)
{
    if (slot->pending)
        cuda_check(cudaEventSynchronize(slot->passed));
    slot->pending = false;
}

static void mark(struct staging *s, struct slot *slot)
{
    cuda_check(cudaEventRecord(slot->passed, s->stream));
    slot->pending = true;
}

/* Finds room for a small copy. */
static char *room(struct staging *s, size_t bytes)
{
    size_t at = (s->used + ALIGN_BYTES - 1) & ~(ALIGN_BYTES - 1);
    if (at + bytes > SLOT_BYTES) {
        mark(s, &s->slots[s->current]);
        s->current = (s->current + 1) % SLOTS;
        claim(&s->slots[s->current]);
        at = 0;
    }
    s->used = at + bytes;
    return s->slots[s->current].data + at;
}

/* One thread's part of a large copy: pieces `first`, first + threads ... */
struct carrier {
    struct staging *s;
    char *dst;
    const char *src;
    size_t bytes, piece;
    int first, threads;
    const struct staging_pieces *pass; /* of staging_pass */
};

static size_t piece_bytes(const struct carrier *c, size_t at)
{
    return c->bytes - at < c->piece ? c->bytes - at : c->piece;
}

static void *carry_up(void *argument)
{
    const struct carrier *c = (const struct carrier *)argument;
    struct slot *slots = &c->s->slots[c->first * SLOTS_EACH];
    cuda_check(cudaSetDevice(c->s->index));
    int turn = 0;
    for (size_t at = (size_t)c->first * SLOT_BYTES; at < c->bytes;
         at += (size_t)c->threads * SLOT_BYTES) {
        struct slot *slot = &slots[turn++ % SLOTS_EACH];
        size_t bytes = piece_bytes(c, at);
        claim(slot);
        memcpy(slot->data, c->src + at, bytes);
        cuda_check(
            cudaMemcpyAsync(c->dst + at, slot->data, bytes, cudaMemcpyHostToDevice, c->s->stream));
        mark(c->s, slot);
    }
    return NULL;
}

/* The GPU's copies into a slot need no wait: they follow its copies out of it. */
static void *carry_down(void *argument)
{
    const struct carrier *c = (const struct carrier *)argument;
    struct slot *slots = &c->s->slots[c->first * SLOTS_EACH];
    const size_t apart = (size_t)c->threads * SLOT_BYTES;
    size_t fetched = (size_t)c->first * SLOT_BYTES;
    cuda_check(cudaSetDevice(c->s->index));
    int begun = 0, done = 0;
    for (size_t at = fetched; at < c->bytes; at += apart, done++) {
        for (; fetched < c->bytes && begun < done + SLOTS_EACH; fetched += apart, begun++) {
            struct slot *slot = &slots[begun % SLOTS_EACH];
            cuda_check(cudaMemcpyAsync(slot->data, c->src + fetched, piece_bytes(c, fetched),
                                       cudaMemcpyDeviceToHost, c->s->stream));
            mark(c->s, slot);
        }
        struct slot *slot = &slots[done % SLOTS_EACH];
        claim(slot);
        memcpy(c->dst + at, slot->data, piece_bytes(c, at));
    }
    return NULL;
}

/* Has a mapped file's pages read, so that the disk works on this thread's next pieces meanwhile. */
static void ask_for(const struct carrier *c, size_t at)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (at >= c->bytes)
        return;
    const uintptr_t begin = (uintptr_t)(c->src + at), first = begin / page * page;
    madvise((void *)first, piece_bytes(c, at) + (begin - first), MADV_WILLNEED);
}

/* The bus waits for the use of what was in this place before, the stream for what arrives. */
static void *carry_through(void *argument)
{
    const struct carrier *c = (const struct carrier *)argument;
    struct staging *s = c->s;
    const size_t apart = (size_t)c->threads * c->piece;
    cuda_check(cudaSetDevice(s->index));
    int turn = 0;
    ask_for(c, (size_t)c->first * c->piece);
    for (size_t at = (size_t)c->first * c->piece; at < c->bytes; at += apart) {
        const int number = c->first * SLOTS_EACH + turn++ % SLOTS_EACH;
        struct slot *slot = &s->slots[number];
        char *place = c->pass->room + (size_t)number * SLOT_BYTES;
        const size_t bytes = piece_bytes(c, at);
        ask_for(c, at + apart);
        claim(slot);
        memcpy(slot->data, c->src + at, bytes);
        cuda_check(cudaStreamWaitEvent(s->bus, slot->used, 0));
        cuda_check(cudaMemcpyAsync(place, slot->data, bytes, cudaMemcpyHostToDevice, s->bus));
        cuda_check(cudaEventRecord(slot->passed, s->bus));
        slot->pending = true;
        cuda_check(cudaStreamWaitEvent(s->stream, slot->passed, 0));
        c->pass->use(c->pass->context, place, at, bytes);
        cuda_check(cudaEventRecord(slot->used, s->stream));
    }
    return NULL;
}

static void carry(struct carrier whole, void *(*work)(void *))
{
    struct staging *s = whole.s;
    struct carrier carriers[THREADS];
    pthread_t threads[THREADS];
    bool started[THREADS] = {};
    size_t pieces = (whole.bytes + whole.piece - 1) / whole.piece;
    int count = pieces < THREADS ? (int)pieces : THREADS;
    mark(s, &s->slots[s->current]);
    s->used = SLOT_BYTES; /* small copies continue in the next slot */
    for (int i = 0; i < count; i++) {
        carriers[i] = whole;
        carriers[i].first = i;
        carriers[i].threads = count;
    }
    for (int i = 1; i < count; i++)
        started[i] = pthread_create(&threads[i], NULL, work, &carriers[i]) == 0;
    for (int i = 0; i < count; i++)
        if (!started[i])
            work(&carriers[i]);
    for (int i = 1; i < count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}

void staging_upload(struct staging *s, void *dst, const void *src, size_t bytes)
{
    if (bytes == 0)
        return;
    if (bytes > SLOT_BYTES) {
        carry({s, (char *)dst, (const char *)src, bytes, SLOT_BYTES, 0, 0, NULL}, carry_up);
        return;
    }
    char *pinned = room(s, bytes);
    memcpy(pinned, src, bytes);
    cuda_check(cudaMemcpyAsync(dst, pinned, bytes, cudaMemcpyHostToDevice, s->stream));
}

const void *staging_fetch(struct staging *s, const void *src, size_t bytes)
{
    char *pinned = room(s, bytes);
    cuda_check(cudaMemcpyAsync(pinned, src, bytes, cudaMemcpyDeviceToHost, s->stream));
    cuda_check(cudaEventRecord(s->fetched, s->stream));
    return pinned;
}

void staging_fetched(struct staging *s)
{
    cuda_check_result(cudaEventSynchronize(s->fetched), "waiting for the GPU");
}

void staging_download(struct staging *s, void *dst, const void *src, size_t bytes)
{
    if (bytes == 0)
        return;
    if (bytes > SLOT_BYTES) {
        carry({s, (char *)dst, (const char *)src, bytes, SLOT_BYTES, 0, 0, NULL}, carry_down);
        return;
    }
    char *pinned = room(s, bytes);
    cuda_check(cudaMemcpyAsync(pinned, src, bytes, cudaMemcpyDeviceToHost, s->stream));
    cuda_check(cudaStreamSynchronize(s->stream));
    memcpy(dst, pinned, bytes);
}

void staging_pass(struct staging *s, const struct staging_pieces *p)
{
    if (p->bytes == 0)
        return;
    cuda_check(cudaEventRecord(s->begun, s->stream));
    cuda_check(cudaStreamWaitEvent(s->bus, s->begun, 0));
    carry({s, NULL, p->src, p->bytes, p->piece, 0, 0, p}, carry_through);
}
