#include "tests/cuda-host/cluster.h"

#include <pthread.h>
#include <thread>

namespace cuda_host
{
bool cluster_room::meet()
{
    std::unique_lock<std::mutex> held(lock);
    const unsigned round = rounds;
    if (++arrived == blocks) {
        arrived = 0;
        rounds++;
        changed.notify_all();
        return true;
    }
    changed.wait(held, [&] { return rounds != round || ended > 0; });
    return rounds != round;
}

void cluster_room::leave()
{
    std::lock_guard<std::mutex> held(lock);
    ended++;
    changed.notify_all();
}

/* ---- host threads, each of which always takes the same part */

struct gang {
    std::mutex turn, lock;
    std::condition_variable begun, done;
    const std::function<void(unsigned)> *job = nullptr;
    unsigned parts = 0, number = 0, working = 0, members = 0;
};

static gang *the_gang;

static void member(gang *g, unsigned part, unsigned seen)
{
    for (;;) {
        std::unique_lock<std::mutex> held(g->lock);
        g->begun.wait(held, [&] { return g->number != seen; });
        seen = g->number;
        const std::function<void(unsigned)> *job = part < g->parts ? g->job : nullptr;
        held.unlock();
        if (!job)
            continue;
        (*job)(part);
        held.lock();
        if (--g->working == 0)
            g->done.notify_one();
    }
}

/* A forked child has none of its parent's threads. */
static void forget_gang()
{
    the_gang = nullptr;
}

static gang *get_gang(unsigned members)
{
    if (!the_gang) {
        static bool registered;
        if (!registered)
            pthread_atfork(nullptr, nullptr, forget_gang);
        registered = true;
        the_gang = new gang;
    }
    for (; the_gang->members < members; the_gang->members++)
        std::thread(member, the_gang, the_gang->members, the_gang->number).detach();
    return the_gang;
}

void at_once(unsigned n, const std::function<void(unsigned)> &f)
{
    gang *g = get_gang(n);
    std::lock_guard<std::mutex> mine(g->turn);
    std::unique_lock<std::mutex> held(g->lock);
    g->job = &f;
    g->parts = g->working = n;
    g->number++;
    g->begun.notify_all();
    g->done.wait(held, [&] { return g->working == 0; });
}
} // namespace cuda_host
