/* Blocks of a cluster, which run at the same time, each on a host thread of its own. */
#ifndef CCLD_TESTS_CUDA_HOST_CLUSTER_H
#define CCLD_TESTS_CUDA_HOST_CLUSTER_H

#include <condition_variable>
#include <functional>
#include <mutex>

namespace cuda_host
{
/* Where the blocks of a cluster wait for each other. */
struct cluster_room {
    std::mutex lock;
    std::condition_variable changed;
    unsigned blocks, arrived = 0, ended = 0, rounds = 0;

    explicit cluster_room(unsigned n) : blocks(n)
    {
    }
    /* Returns when all blocks have called it; false if one of them has ended instead. */
    bool meet();
    /* This block has ended. */
    void leave();
};

/* Calls f(i) for i < n, n at most CLUSTER_MOST, all at the same time. */
constexpr unsigned CLUSTER_MOST = 16;
void at_once(unsigned n, const std::function<void(unsigned)> &f);
} // namespace cuda_host

#endif
