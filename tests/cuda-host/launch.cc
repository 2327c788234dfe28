#include <atomic>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <thread>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/cluster.h"

namespace cuda_host
{
static const size_t SHARED_LIMIT = 227 << 10;

bool has_clusters(unsigned blocks)
{
    int major;
    cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, here.device));
    return blocks <= (major >= 9 ? CLUSTER_MOST : 1);
}

void check_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes, unsigned cluster)
{
    const size_t threads = (size_t)block.x * block.y * block.z;
    if (grid.x < 1 || grid.x > 0x7fffffffu || grid.y < 1 || grid.y > 65535 || grid.z < 1 ||
        grid.z > 65535)
        cuda_die("CUDA: kernel '%s': a grid of %u x %u x %u blocks is not possible", name, grid.x,
                 grid.y, grid.z);
    if (threads < 1 || threads > 1024 || block.z > 64)
        cuda_die("CUDA: kernel '%s': a block of %u x %u x %u threads is not possible", name,
                 block.x, block.y, block.z);
    if (shared_bytes > SHARED_LIMIT)
        cuda_die("CUDA: kernel '%s': %zu bytes of shared memory are not possible", name,
                 shared_bytes);
    if (cluster > 1 && (grid.x % cluster || !has_clusters(cluster)))
        cuda_die("CUDA: kernel '%s': clusters of %u blocks of %u are not possible", name, cluster,
                 grid.x);
}

/* ---- host threads */

struct crew {
    std::mutex turn; /* one job at a time */
    std::mutex lock;
    std::condition_variable begun, done;
    const std::function<void(size_t)> *job = nullptr;
    size_t n = 0, grain = 1;
    std::atomic<size_t> next{0};
    unsigned number = 0, working = 0, members = 0;
};

static crew *the_crew;
static std::atomic<bool> busy; /* within parallel_for */

static void take_part(crew *c)
{
    for (;;) {
        const size_t first = c->next.fetch_add(c->grain);
        if (first >= c->n)
            return;
        for (size_t i = first; i < first + c->grain && i < c->n; i++)
            (*c->job)(i);
    }
}

static void member(crew *c)
{
    unsigned seen = 0;
    for (;;) {
        std::unique_lock<std::mutex> held(c->lock);
        c->begun.wait(held, [&] { return c->number != seen; });
        seen = c->number;
        held.unlock();
        take_part(c);
        held.lock();
        if (--c->working == 0)
            c->done.notify_one();
    }
}

/* A forked child has none of its parent's threads. */
static void forget_crew()
{
    the_crew = nullptr;
    busy = false;
}

static crew *get_crew()
{
    if (!the_crew) {
        static bool registered;
        if (!registered)
            pthread_atfork(nullptr, nullptr, forget_crew);
        registered = true;
        the_crew = new crew;
        cpu_set_t cpus;
        int cores = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus);
        the_crew->members = (unsigned)(cores < 16 ? cores : 16) - 1;
        for (unsigned i = 0; i < the_crew->members; i++)
            std::thread(member, the_crew).detach();
    }
    return the_crew;
}

void parallel_for(size_t n, const std::function<void(size_t)> &f)
{
    bool idle = false;
    if (n < 2 || !busy.compare_exchange_strong(idle, true)) {
        for (size_t i = 0; i < n; i++)
            f(i);
        return;
    }
    crew *c = get_crew();
    {
        std::lock_guard<std::mutex> held(c->lock);
        c->job = &f;
        c->n = n;
        c->grain = n / ((c->members + 1) * 8) + 1;
        c->next = 0;
        c->number++;
        c->working = c->members;
    }
    c->begun.notify_all();
    take_part(c);
    std::unique_lock<std::mutex> held(c->lock);
    c->done.wait(held, [&] { return c->working == 0; });
    busy = false;
}

/* Clusters run one after another. */
template <typename F> static void run_clusters(const kernel_call &k, size_t blocks, F one)
{
    for (size_t first = 0; first < blocks; first += k.cluster) {
        cluster_room room(k.cluster);
        at_once(k.cluster, [&](unsigned i) { one(first + i, &room); });
    }
}

void run_grid(const kernel_call &k)
{
    static std::atomic<unsigned> launches;
    const unsigned number = ++launches;
    const size_t blocks = (size_t)k.grid.x * k.grid.y * k.grid.z;
    const size_t threads = (size_t)k.block.x * k.block.y * k.block.z;
    std::atomic<bool> failed{false};
    std::mutex lock;
    char error[900];
    const auto one = [&](size_t i, cluster_room *room) {
        if (failed && !room)
            return;
        const char *text = run_block(k, number, (unsigned)(number % 2 ? i : blocks - 1 - i), room);
        std::lock_guard<std::mutex> held(lock);
        if (text && !failed.exchange(true))
            snprintf(error, sizeof error, "%s", text);
    };
    if (k.cluster > 1)
        run_clusters(k, blocks, one);
    else if (blocks * threads < 4096)
        for (size_t i = 0; i < blocks && !failed; i++)
            one(i, nullptr);
    else
        parallel_for(blocks, [&](size_t i) { one(i, nullptr); });
    if (failed)
        cuda_die("%s", error);
}
} // namespace cuda_host
