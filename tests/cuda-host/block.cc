#include <link.h>
#include <stdarg.h>
#include <mutex>
#include <vector>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/cluster.h"
#include "tests/cuda-host/fiber.h"

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cuda_host
{
__thread place here;

struct async_copy {
    void *shared;
    const void *global;
    bool valid;
    unsigned group;
};

/* A fiber runs the block's threads one after another and is left only when a thread waits, so that
 * a kernel that never waits is a plain loop. */
struct thread_fiber : fiber {
    index3 thread;
    unsigned rank;
    const char *waits_at = nullptr, *file;
    int line;
    std::vector<async_copy> copies;
    unsigned groups; /* committed */
};

struct warp {
    unsigned arrived;
    meeting *meetings[32];
    thread_fiber *fibers[32];
};

static const int MARGIN = 256;

struct block_runner {
    const kernel_call *k;
    cluster_room *room; /* of a cluster */
    unsigned threads, started, finished;
    bool descending; /* the order in which threads start */
    bool waited;     /* since static shared memory was filled */
    unsigned filled_launch;
    thread_fiber main, *current;
    std::vector<thread_fiber *> fibers, idle;
    thread_fiber *ready[1024];
    unsigned ready_first, ready_count;
    thread_fiber *at_barrier[1024];
    unsigned at_barrier_count;
    int votes, voted;
    warp warps[32];
    unsigned char *shared; /* MARGIN, the launch's bytes, MARGIN */
    char *statics;         /* this host thread's thread_local variables of this library */
    size_t statics_bytes;
    char error[900];
    bool failed;
};

/* ---- errors */

[[noreturn]] static void fail(block_runner *r)
{
    r->failed = true;
    fiber_switch(r->current, &r->main);
    abort();
}

void kernel_error(const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    block_runner *r = here.runner;
    if (!r || !r->k)
        cuda_die("emulated CUDA, outside a kernel: %s", text);
    const index3 b = here.block, t = here.thread;
    snprintf(r->error, sizeof r->error, "kernel '%s', block (%u,%u,%u), thread (%u,%u,%u): %s",
             r->k->name, b.x, b.y, b.z, t.x, t.y, t.z, text);
    fail(r);
}

/* Reports where threads wait. */
[[noreturn]] static void deadlock(block_runner *r)
{
    const index3 b = here.block;
    char *p = r->error, *end = r->error + sizeof r->error;
    p += snprintf(p, (size_t)(end - p), "kernel '%s', block (%u,%u,%u): deadlock: of %u threads",
                  r->k->name, b.x, b.y, b.z, r->threads);
    std::vector<bool> told(r->fibers.size());
    for (size_t i = 0; i < r->fibers.size() && end - p > 200; i++) {
        const thread_fiber *f = r->fibers[i];
        if (told[i] || !f->waits_at)
            continue;
        int count = 0;
        const thread_fiber *first = f;
        for (size_t j = i; j < r->fibers.size(); j++) {
            const thread_fiber *g = r->fibers[j];
            if (g->waits_at && !strcmp(g->waits_at, f->waits_at) && !strcmp(g->file, f->file) &&
                g->line == f->line) {
                told[j] = true;
                count++;
                first = g->rank < first->rank ? g : first;
            }
        }
        p += snprintf(p, (size_t)(end - p), " %d wait at %s of %s:%d, (%u,%u,%u) the first;", count,
                      f->waits_at, f->file, f->line, first->thread.x, first->thread.y,
                      first->thread.z);
    }
    snprintf(p, (size_t)(end - p), " %u have returned", r->finished);
    fail(r);
}

/* ---- scheduling */

static void make_ready(block_runner *r, thread_fiber *f)
{
    f->waits_at = nullptr;
    r->ready[(r->ready_first + r->ready_count++) % 1024] = f;
}

static void enter(block_runner *r, thread_fiber *f)
{
    r->current = f;
    here.thread = f->thread;
}

static void run_threads(void *runner);

static thread_fiber *idle_fiber(block_runner *r)
{
    if (r->idle.empty()) {
        thread_fiber *f = new thread_fiber;
        fiber_make(f, run_threads, r, (int)r->fibers.size());
        r->fibers.push_back(f);
        return f;
    }
    thread_fiber *f = r->idle.back();
    r->idle.pop_back();
    return f;
}

/* Suspends the current fiber until another makes it ready. */
static void leave(block_runner *r)
{
    thread_fiber *self = r->current, *next;
    if (r->ready_count) {
        next = r->ready[r->ready_first];
        r->ready_first = (r->ready_first + 1) % 1024;
        r->ready_count--;
    } else if (r->started < r->threads) {
        next = idle_fiber(r);
    } else {
        if (r->finished < r->threads)
            deadlock(r);
        next = &r->main;
    }
    fiber_switch(self, next);
    enter(r, self);
}

static void wait_at(block_runner *r, const char *what, const char *file, int line)
{
    r->current->waits_at = what;
    r->current->file = file;
    r->current->line = line;
    leave(r);
}

static void run_threads(void *runner)
{
    block_runner *r = (block_runner *)runner;
    thread_fiber *self = static_cast<thread_fiber *>(switching.entering);
    for (;;) {
        while (r->started < r->threads) {
            const unsigned n = r->started++;
            const unsigned rank = r->descending ? r->threads - 1 - n : n;
            const index3 size = here.block_size;
            self->rank = rank;
            if (size.x == r->threads)
                self->thread = {rank, 0, 0};
            else
                self->thread = {rank % size.x, rank / size.x % size.y, rank / (size.x * size.y)};
            self->groups = 0;
            enter(r, self);
            r->k->call(r->k->bound);
            r->finished++;
            if (!self->copies.empty())
                self->copies.clear();
        }
        r->idle.push_back(self);
        leave(r);
    }
}

/* ---- barriers */

static int run_barrier(bool vote, const char *file, int line)
{
    block_runner *r = here.runner;
    r->waited = true;
    r->votes += vote;
    if (r->at_barrier_count + 1 < r->threads) {
        r->at_barrier[r->at_barrier_count++] = r->current;
        wait_at(r, "__syncthreads", file, line);
        return r->voted;
    }
    for (unsigned i = 0; i < r->at_barrier_count; i++) {
        thread_fiber *f = r->at_barrier[i];
        if (f->line != line || strcmp(f->file, file))
            kernel_error(
                "is at __syncthreads of %s:%d, and thread (%u,%u,%u) is at the one of %s:%d", file,
                line, f->thread.x, f->thread.y, f->thread.z, f->file, f->line);
        make_ready(r, f);
    }
    r->at_barrier_count = 0;
    r->voted = r->votes;
    r->votes = 0;
    return r->voted;
}

void barrier(const char *file, int line)
{
    run_barrier(false, file, line);
}

int barrier_count(bool vote, const char *file, int line)
{
    return run_barrier(vote, file, line);
}

void cluster_barrier(const char *file, int line)
{
    block_runner *r = here.runner;
    if (!r->room)
        kernel_error("cluster_barrier of %s:%d in a kernel that has no clusters", file, line);
    run_barrier(false, file, line);
    if (r->current->rank == 0 && !r->room->meet())
        kernel_error("cluster_barrier of %s:%d, and another block of the cluster has ended", file,
                     line);
    run_barrier(false, file, line);
}

/* ---- warps */

int lane()
{
    return (int)(here.runner->current->rank % 32);
}

void meet(meeting *m)
{
    block_runner *r = here.runner;
    r->waited = true;
    const unsigned rank = r->current->rank, self = rank % 32,
                   lanes_left = r->threads - rank / 32 * 32;
    warp *w = &r->warps[rank / 32];
    if (!(m->mask >> self & 1))
        kernel_error("%s of %s:%d with a mask, %08x, without its own lane", m->name, m->file,
                     m->line, m->mask);
    /* As on a GPU, lanes beyond the block are not waited for. */
    const unsigned present = m->mask & (lanes_left >= 32 ? 0xffffffffu : (1u << lanes_left) - 1);
    w->meetings[self] = m;
    w->fibers[self] = r->current;
    w->arrived |= 1u << self;
    bool all = (w->arrived & present) == present;
    meeting *lanes[32] = {};
    for (unsigned l = 0; all && l < 32; l++)
        if (present >> l & 1) {
            lanes[l] = w->meetings[l];
            all = lanes[l]->mask == m->mask && lanes[l]->run == m->run;
        }
    if (!all) {
        wait_at(r, m->name, m->file, m->line);
        return;
    }
    w->arrived &= ~present;
    for (unsigned l = 0; l < 32; l++)
        if (present >> l & 1 && l != self)
            make_ready(r, w->fibers[l]);
    m->run(lanes);
}

void run_sync(meeting **)
{
}

void run_ballot(meeting **lanes)
{
    unsigned votes = 0;
    for (int l = 0; l < 32; l++)
        if (lanes[l])
            votes |= static_cast<exchange<unsigned> *>(lanes[l])->x << l;
    for (int l = 0; l < 32; l++)
        if (lanes[l])
            static_cast<exchange<unsigned> *>(lanes[l])->result = votes;
}

/* ---- matrices */

static bool is_shared(const void *p)
{
    const block_runner *r = here.runner;
    const char *c = (const char *)p, *dynamic = (const char *)here.dynamic_shared;
    return (c >= dynamic && c + 16 <= dynamic + r->k->shared_bytes) ||
           (c >= r->statics && c + 16 <= r->statics + r->statics_bytes);
}

static void check_shared(const void *p, const char *who)
{
    check_aligned(p, 16, who);
    if (!is_shared(p))
        kernel_error("%s of %p, which is not in the block's shared memory", who, p);
}

struct matrix_fetch : meeting {
    const uint16_t *row;
    unsigned *r;
    bool transposed;
};

static void run_ldmatrix(meeting **lanes)
{
    const matrix_fetch *first = static_cast<matrix_fetch *>(lanes[0]);
    for (int i = 0; i < 4; i++) {
        uint16_t m[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(m[row], static_cast<matrix_fetch *>(lanes[i * 8 + row])->row, sizeof m[row]);
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, t = l % 4 * 2;
            const unsigned low = first->transposed ? m[t][g] : m[g][t];
            const unsigned high = first->transposed ? m[t + 1][g] : m[g][t + 1];
            static_cast<matrix_fetch *>(lanes[l])->r[i] = low | high << 16;
        }
    }
}

void ldmatrix(unsigned *r, const void *row, bool transposed)
{
    matrix_fetch f;
    f.mask = 0xffffffffu;
    f.name = transposed ? "ldmatrix_trans" : "ldmatrix";
    f.run = run_ldmatrix;
    f.file = "x4";
    f.line = 0;
    f.row = (const uint16_t *)row;
    f.r = r;
    f.transposed = transposed;
    check_shared(row, f.name);
    if (here.runner->threads % 32)
        kernel_error("ldmatrix in an incomplete warp");
    meet(&f);
}

struct matrix_product : meeting {
    float *c;
    const unsigned *a, *b;
};

template <typename T> static void unpack(unsigned both, float &low, float &high)
{
    low = to_float(cuda_host_bits<T>((uint16_t)both));
    high = to_float(cuda_host_bits<T>((uint16_t)(both >> 16)));
}

template <typename T> static void run_mma(meeting **lanes)
{
    float a[16][16], b[16][8], c[16][8];
    for (int l = 0; l < 32; l++) {
        const matrix_product *p = static_cast<matrix_product *>(lanes[l]);
        const int g = l / 4, t = l % 4 * 2;
        for (int i = 0; i < 4; i++) {
            const int row = g + i % 2 * 8, column = t + i / 2 * 8;
            unpack<T>(p->a[i], a[row][column], a[row][column + 1]);
            c[g + i / 2 * 8][t + i % 2] = p->c[i];
        }
        for (int i = 0; i < 2; i++)
            unpack<T>(p->b[i], b[t + i * 8][g], b[t + i * 8 + 1][g]);
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++)
                c[m][n] += a[m][k] * b[k][n];
    for (int l = 0; l < 32; l++) {
        const int g = l / 4, t = l % 4 * 2;
        for (int i = 0; i < 4; i++)
            static_cast<matrix_product *>(lanes[l])->c[i] = c[g + i / 2 * 8][t + i % 2];
    }
}

static void mma(void (*run)(meeting **), float *c, const unsigned *a, const unsigned *b)
{
    matrix_product p;
    p.mask = 0xffffffffu;
    p.name = "mma_16x8x16";
    p.run = run;
    p.file = "";
    p.line = 0;
    p.c = c;
    p.a = a;
    p.b = b;
    if (here.runner->threads % 32)
        kernel_error("mma in an incomplete warp");
    meet(&p);
}

void mma_16x8x16_f16(float *c, const unsigned *a, const unsigned *b)
{
    mma(run_mma<half_t>, c, a, b);
}

void mma_16x8x16_bf16(float *c, const unsigned *a, const unsigned *b)
{
    mma(run_mma<bf16_t>, c, a, b);
}

/* ---- asynchronous copies: made at the latest possible moment */

void cp_async_16(void *shared, const void *global, bool valid)
{
    check_shared(shared, "cp_async_16 to");
    check_aligned(global, 16, "cp_async_16");
    thread_fiber *f = here.runner->current;
    here.runner->waited = true;
    f->copies.push_back({shared, global, valid, f->groups});
}

void cp_async_commit()
{
    here.runner->current->groups++;
}

void cp_async_wait(int groups)
{
    thread_fiber *f = here.runner->current;
    size_t done = 0;
    while (done < f->copies.size() && f->copies[done].group + (unsigned)groups < f->groups) {
        const async_copy &c = f->copies[done++];
        if (c.valid)
            memcpy(c.shared, c.global, 16);
        else
            memset(c.shared, 0, 16);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + (long)done);
}

/* ---- blocks */

static int find_statics(dl_phdr_info *info, size_t, void *runner)
{
    block_runner *r = (block_runner *)runner;
    const char *tls = (const char *)info->dlpi_tls_data;
    for (int i = 0; tls && i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS && (const char *)&here >= tls &&
            (const char *)&here < tls + info->dlpi_phdr[i].p_memsz) {
            r->statics = (char *)info->dlpi_tls_data;
            r->statics_bytes = info->dlpi_phdr[i].p_memsz;
            return 1;
        }
    return 0;
}

/* Fills uninitialized __shared__ variables with NaN: all thread_local variables but the emulator's.
 */
static void fill_statics(block_runner *r)
{
    const place saved_place = here;
    const fiber_switch_state saved_switch = switching;
    memset(r->statics, 0xff, r->statics_bytes);
    here = saved_place;
    switching = saved_switch;
}

static block_runner *make_runner()
{
    /* Never destroyed: threads may run until the end. */
    static std::vector<block_runner *> &all = *new std::vector<block_runner *>;
    static std::mutex lock;
    block_runner *r = new block_runner();
    r->shared = (unsigned char *)aligned_alloc(128, (227 << 10) + 2 * MARGIN);
    if (!r->shared)
        cuda_die("out of memory in the emulator");
    dl_iterate_phdr(find_statics, r);
    std::lock_guard<std::mutex> held(lock);
    all.push_back(r);
    return r;
}

static void prepare_shared(block_runner *r)
{
    const size_t n = r->k->shared_bytes;
#ifdef WITH_ASAN
    __asan_unpoison_memory_region(r->shared, (227 << 10) + 2 * MARGIN);
#endif
    memset(r->shared, 0xa5, MARGIN);
    memset(r->shared + MARGIN, 0xff, n);
    memset(r->shared + MARGIN + n, 0xa5, MARGIN);
#ifdef WITH_ASAN
    __asan_poison_memory_region(r->shared, MARGIN);
    __asan_poison_memory_region(r->shared + MARGIN + n, (227 << 10) + MARGIN - n);
#endif
    here.dynamic_shared = r->shared + MARGIN;
}

static void check_margins(block_runner *r)
{
#ifndef WITH_ASAN
    const unsigned char *after = r->shared + MARGIN + r->k->shared_bytes;
    for (int i = 0; i < MARGIN && !r->failed; i++)
        if (r->shared[i] != 0xa5 || after[i] != 0xa5) {
            snprintf(r->error, sizeof r->error,
                     "kernel '%s', block (%u,%u,%u): writes outside of its %zu bytes of dynamic "
                     "shared memory",
                     r->k->name, here.block.x, here.block.y, here.block.z, r->k->shared_bytes);
            r->failed = true;
        }
#endif
}

const char *run_block(const kernel_call &k, unsigned launch_number, unsigned block,
                      cluster_room *room)
{
    if (!here.runner)
        here.runner = make_runner();
    block_runner *r = here.runner;
    r->k = &k;
    r->room = room;
    r->threads = k.block.x * k.block.y * k.block.z;
    r->started = r->finished = 0;
    /* Both orders, because either alone would hide some missing barriers. */
    r->descending = (launch_number + block) % 2;
    here.grid_size = {k.grid.x, k.grid.y, k.grid.z};
    here.block_size = {k.block.x, k.block.y, k.block.z};
    here.block = {block % k.grid.x, block / k.grid.x % k.grid.y, block / (k.grid.x * k.grid.y)};
    if (r->waited || r->filled_launch != launch_number) {
        fill_statics(r);
        r->waited = false;
        r->filled_launch = launch_number;
    }
    prepare_shared(r);
    fiber_switch(&r->main, idle_fiber(r));
    check_margins(r);
    if (room)
        room->leave();
    r->k = nullptr;
    return r->failed ? r->error : nullptr;
}
} // namespace cuda_host
