/* Runs kernels and host tasks in the order of their streams. */
#ifndef CCLD_TESTS_CUDA_HOST_LAUNCH_H
#define CCLD_TESTS_CUDA_HOST_LAUNCH_H

#include <functional>
#include <tuple>
#include <utility>

#include "tests/cuda-host/block.h"
#include "tests/cuda-host/count.h"
#include "tests/cuda-host/runtime.h"

namespace cuda_host
{
struct kernel_call {
    const char *name;
    dim3 grid, block;
    size_t shared_bytes;
    unsigned cluster; /* blocks along x that run at the same time */
    void (*call)(const void *bound);
    const void *bound; /* the kernel and copies of its arguments */
};

/* Runs task after all earlier work on the stream, or records it if the stream is being captured.
 * The replacements of NVIDIA's libraries work through this. */
void host_task(cudaStream_t stream, std::function<void()> task);

/* Calls f(i) for i < n, on all cores. f must not call the runtime. Within a kernel or another
 * parallel_for it runs on the calling thread. */
void parallel_for(size_t n, const std::function<void(size_t)> &f);

void check_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes, unsigned cluster);
bool has_clusters(unsigned blocks);
void run_grid(const kernel_call &k);
/* Runs a block on the calling thread. Returns the text of kernel_error, or null. room: of a block
 * in a cluster. */
const char *run_block(const kernel_call &k, unsigned launch_number, unsigned block,
                      struct cluster_room *room = nullptr);

template <typename... P> struct bound_kernel {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void call(const void *bound)
    {
        const bound_kernel *b = static_cast<const bound_kernel *>(bound);
        std::apply(b->kernel, b->arguments);
    }
};
} // namespace cuda_host

template <typename... P>
bool cluster_fits(void (*kernel)(P...), unsigned cluster, dim3 block, size_t shared_bytes)
{
    return cuda_host::has_clusters(cluster);
}

template <typename... P, typename... A>
void launch_cluster(const char *name, void (*kernel)(P...), unsigned cluster, dim3 grid, dim3 block,
                    size_t shared_bytes, cudaStream_t stream, A &&...arguments)
{
    cuda_host::check_launch(name, grid, block, shared_bytes, cluster);
    if (cuda_host::counted(name, 0, 0))
        return;
    typedef cuda_host::bound_kernel<P...> bound;
    bound b{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(arguments))...)};
    cuda_host::host_task(stream, [=] {
        cuda_host::run_grid({name, grid, block, shared_bytes, cluster, bound::call, &b});
    });
}

template <typename... P, typename... A>
void launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, A &&...arguments)
{
    launch_cluster(name, kernel, 1, grid, block, shared_bytes, stream,
                   std::forward<A>(arguments)...);
}

#endif
