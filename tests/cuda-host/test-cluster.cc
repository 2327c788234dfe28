/* Tests clusters of the emulator. TAP. */
#include "tests/cuda-host/testing.h"

/* Each block writes, and reads what the next block of its cluster has written. */
static __global__ void next_of_cluster(const int *x, int *between, int *y, int cluster)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), threads = (int)blockDim.x;
    const int block = (int)blockIdx.x, first = block / cluster * cluster;
    for (int round = 1; round < 4; round++) {
        between[i] = x[i] * round;
        cluster_barrier();
        const int next = first + (block - first + 1) % cluster;
        y[i] += __ldcg(between + next * threads + (int)threadIdx.x);
        cluster_barrier();
    }
}

static void test_exchange(int cluster)
{
    const int blocks = 3 * cluster, threads = 96, n = blocks * threads;
    std::vector<int> x;
    for (int i = 0; i < n; i++)
        x.push_back(i * 7 % 1000);
    device_array<int> dx(x), between(n), dy(std::vector<int>(n, 0));
    LAUNCH_CLUSTER(next_of_cluster, (unsigned)cluster, (unsigned)blocks, (unsigned)threads, 0,
                   stream, dx.data, between.data, dy.data, cluster);
    const std::vector<int> y = dy.read();
    int wrong = 0;
    for (int i = 0; i < n; i++) {
        const int block = i / threads, first = block / cluster * cluster;
        const int next = first + (block - first + 1) % cluster;
        wrong += y[i] != 6 * x[next * threads + i % threads];
    }
    tap_ok(wrong == 0, "clusters of %d blocks exchange data", cluster);
}

static __global__ void first_leaves()
{
    if (blockIdx.x % 2 == 0)
        return;
    cluster_barrier();
}
static __global__ void waits()
{
    cluster_barrier();
}

int main()
{
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int cluster : {2, 8, 16})
        test_exchange(cluster);
    tap_ok(cluster_fits(waits, 16, 32, 0) && !cluster_fits(waits, 17, 32, 0),
           "clusters have at most 16 blocks");
    refused(
        "a block that ends while others wait", "another block of the cluster has ended",
        [] { LAUNCH_CLUSTER(first_leaves, 2, 4, 64, 0, stream); });
    refused(
        "cluster_barrier without clusters", "in a kernel that has no clusters",
        [] { LAUNCH(waits, 2, 64, 0, stream); });
    refused("a grid that clusters do not divide", "clusters of 2 blocks of 3 are not possible",
            [] { LAUNCH_CLUSTER(waits, 2, 3, 64, 0, stream); });
    setenv("CCLD_EMULATED_CAPABILITY", "80", 1);
    tap_ok(!cluster_fits(waits, 2, 32, 0) && cluster_fits(waits, 1, 32, 0),
           "GPUs before sm_90 have no clusters");
    cuda_check(cudaStreamDestroy(stream));
    return tap_done();
}
