/* Launches of kernels; a part of cuda.cuh, which says what there is. On the emulator,
 * tests/cuda-host/launch.h has the functions. */
#ifndef CCLD_KERNELS_CUDA_LAUNCH_CUH
#define CCLD_KERNELS_CUDA_LAUNCH_CUH

#ifdef CUDA_ON_HOST
#define DYNAMIC_SHARED(type, name)                                                                 \
    type *const name = static_cast<type *>(cuda_host::dynamic_shared())
DEVICE_INLINE void cluster_barrier()
{
    cuda_host::cluster_barrier();
}
#else
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];                         \
    type *const name = reinterpret_cast<type *>(dynamic_shared_bytes)

inline cudaError_t raise_shared_limit(const void *kernel, size_t shared_bytes)
{
    if (shared_bytes <= 48 * 1024)
        return cudaSuccess;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                (int)shared_bytes);
}

template <typename... P, typename... A>
inline void launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                          size_t shared_bytes, cudaStream_t stream, A &&...args)
{
    cudaError_t raised = raise_shared_limit((const void *)kernel, shared_bytes);
    if (raised != cudaSuccess)
        cuda_die("CUDA: kernel '%s' with %zu bytes of shared memory: %s", name, shared_bytes,
                 cudaGetErrorString(raised));
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<A &&>(args)...);
    cudaError_t launched = cudaGetLastError();
    if (launched != cudaSuccess)
        cuda_die("CUDA: kernel '%s': %s", name, cudaGetErrorString(launched));
}

inline cudaLaunchConfig_t cluster_config(unsigned cluster, dim3 grid, dim3 block,
                                         size_t shared_bytes, cudaStream_t stream,
                                         cudaLaunchAttribute *attribute)
{
    cudaLaunchConfig_t config = {};
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = cluster;
    attribute->val.clusterDim.y = attribute->val.clusterDim.z = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attribute;
    config.numAttrs = 1;
    return config;
}

/* Whether the GPU has such clusters, or blocks if cluster is 1. More than 8 are not portable: a GPU
 * has them if it says so. */
template <typename... P>
inline bool cluster_fits(void (*kernel)(P...), unsigned cluster, dim3 block, size_t shared_bytes)
{
    cudaLaunchAttribute attribute;
    const cudaLaunchConfig_t config =
        cluster_config(cluster, cluster, block, shared_bytes, nullptr, &attribute);
    const int threads = (int)(block.x * block.y * block.z);
    int clusters = 0;
    cudaError_t asked = raise_shared_limit((const void *)kernel, shared_bytes);
    if (asked == cudaSuccess && cluster > 8)
        asked = cudaFuncSetAttribute((const void *)kernel,
                                     cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (asked == cudaSuccess && cluster > 1)
        asked = cudaOccupancyMaxActiveClusters(&clusters, (const void *)kernel, &config);
    else if (asked == cudaSuccess)
        asked = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&clusters, (const void *)kernel,
                                                              threads, shared_bytes);
    if (asked == cudaSuccess)
        return clusters > 0;
    cudaGetLastError();
    return false;
}

/* Of a cluster that fits. The limit of shared memory may have been set for another launch since. */
template <typename... P, typename... A>
inline void launch_cluster(const char *name, void (*kernel)(P...), unsigned cluster, dim3 grid,
                           dim3 block, size_t shared_bytes, cudaStream_t stream, A &&...args)
{
    cudaLaunchAttribute attribute;
    const cudaLaunchConfig_t config =
        cluster_config(cluster, grid, block, shared_bytes, stream, &attribute);
    cudaError_t launched = raise_shared_limit((const void *)kernel, shared_bytes);
    if (launched == cudaSuccess)
        launched = cudaLaunchKernelEx(&config, kernel, static_cast<P>(static_cast<A &&>(args))...);
    if (launched != cudaSuccess)
        cuda_die("CUDA: kernel '%s' in clusters of %u: %s", name, cluster,
                 cudaGetErrorString(launched));
}

DEVICE_INLINE void cluster_barrier()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;\n"
                 "barrier.cluster.wait.acquire;" ::
                     : "memory");
#elif defined(__CUDA_ARCH__)
    __trap(); /* no GPU launches it there */
#endif
}
#endif
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    launch_kernel(#kernel, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)
/* In clusters if there is more than one block to each. */
#define LAUNCH_BLOCKS(kernel, cluster, grid, block, shared_bytes, stream, ...)                     \
    do {                                                                                           \
        if ((cluster) > 1)                                                                         \
            LAUNCH_CLUSTER(kernel, cluster, grid, block, shared_bytes, stream, ##__VA_ARGS__);     \
        else                                                                                       \
            LAUNCH(kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__);                      \
    } while (0)
#define LAUNCH_CLUSTER(kernel, cluster, grid, block, shared_bytes, stream, ...)                    \
    launch_cluster(#kernel, kernel, cluster, grid, block, shared_bytes, stream, ##__VA_ARGS__)

#endif
