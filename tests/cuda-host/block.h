/* The threads of a block: indices, barriers and warps. block.cc runs them. */
#ifndef CCLD_TESTS_CUDA_HOST_BLOCK_H
#define CCLD_TESTS_CUDA_HOST_BLOCK_H

#include "tests/cuda-host/half.h"

namespace cuda_host
{
struct index3 {
    unsigned x, y, z;
    operator dim3() const
    {
        return dim3(x, y, z);
    }
};
struct block_runner;

/* The kernel's thread that runs on this host thread. No other variable of the emulator may be
 * thread_local: fill_statics() would overwrite it. */
struct place {
    index3 thread, block, block_size, grid_size;
    block_runner *runner; /* null outside kernels */
    void *dynamic_shared;
    int capture_mode; /* streams.cc's */
    int device;       /* runtime.cc's */
};
extern __thread place here;

/* Warp functions: each lane of `mask` brings one of these, and the last to arrive calls `run`. */
struct meeting {
    unsigned mask;
    const char *name;
    void (*run)(meeting **lanes); /* of 32, null where not in mask */
    const char *file;
    int line;
};
void meet(meeting *m);

void barrier(const char *file, int line);
int barrier_count(bool vote, const char *file, int line);
/* All threads of all blocks of a cluster. */
void cluster_barrier(const char *file = __builtin_FILE(), int line = __builtin_LINE());

/* kernel 'NAME', block (x,y,z), thread (x,y,z): TEXT */
[[noreturn]] void kernel_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

inline void check_aligned(const void *p, size_t bytes, const char *who)
{
    if ((uintptr_t)p % bytes)
        kernel_error("%s of %p, which is not aligned to %zu bytes", who, p, bytes);
}
inline void *dynamic_shared()
{
    return here.dynamic_shared;
}

template <typename T> struct exchange : meeting {
    T x, result;
    int argument;
};

template <typename T>
T run_exchange(T x, int argument, unsigned mask, void (*run)(meeting **), const char *name,
               const char *file, int line)
{
    exchange<T> e;
    e.mask = mask;
    e.name = name;
    e.run = run;
    e.file = file;
    e.line = line;
    e.x = x;
    e.argument = argument;
    meet(&e);
    return e.result;
}

/* argument: the lane to read from. A missing lane yields NaN or all ones. */
template <typename T> void run_shuffle(meeting **lanes)
{
    for (int l = 0; l < 32; l++)
        if (lanes[l]) {
            exchange<T> *e = static_cast<exchange<T> *>(lanes[l]);
            if (lanes[e->argument])
                e->result = static_cast<exchange<T> *>(lanes[e->argument])->x;
            else
                memset(&e->result, 0xff, sizeof e->result);
        }
}
void run_ballot(meeting **lanes);
void run_sync(meeting **lanes);
int lane();

/* Adds lanes 16, 8, 4, 2 and 1 apart, in the order of the GPU's code. */
template <typename T> void run_sum(meeting **lanes)
{
    T x[32], y[32];
    for (int l = 0; l < 32; l++)
        x[l] = static_cast<exchange<T> *>(lanes[l])->x;
    for (int apart = 16; apart > 0; apart /= 2) {
        for (int l = 0; l < 32; l++)
            y[l] = x[l] + x[l ^ apart];
        memcpy(x, y, sizeof x);
    }
    for (int l = 0; l < 32; l++)
        static_cast<exchange<T> *>(lanes[l])->result = x[l];
}
template <typename T>
T warp_sum(T x, const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    return run_exchange(x, 0, 0xffffffffu, run_sum<T>, "warp_sum", file, line);
}
void ldmatrix(unsigned *r, const void *row, bool transposed);
void mma_16x8x16_f16(float *c, const unsigned *a, const unsigned *b);
void mma_16x8x16_bf16(float *c, const unsigned *a, const unsigned *b);
template <typename T> void mma_16x8x16(float *c, const unsigned *a, const unsigned *b);
template <> inline void mma_16x8x16<__half>(float *c, const unsigned *a, const unsigned *b)
{
    mma_16x8x16_f16(c, a, b);
}
template <> inline void mma_16x8x16<__nv_bfloat16>(float *c, const unsigned *a, const unsigned *b)
{
    mma_16x8x16_bf16(c, a, b);
}

void cp_async_16(void *shared, const void *global, bool valid);
void cp_async_commit();
void cp_async_wait(int groups);
} // namespace cuda_host

#define threadIdx (cuda_host::here.thread)
#define blockIdx  (cuda_host::here.block)
#define blockDim  (cuda_host::here.block_size)
#define gridDim   (cuda_host::here.grid_size)
static constexpr int warpSize = 32;

#define CUDA_HOST_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_HOST_WHERE)
{
    cuda_host::barrier(file, line);
}
inline int __syncthreads_count(int vote, CUDA_HOST_WHERE)
{
    return cuda_host::barrier_count(vote != 0, file, line);
}
inline int __syncthreads_or(int vote, CUDA_HOST_WHERE)
{
    return cuda_host::barrier_count(vote != 0, file, line) != 0;
}
inline int __syncthreads_and(int vote, CUDA_HOST_WHERE)
{
    return cuda_host::barrier_count(vote == 0, file, line) == 0;
}

/* Lanes read within their group of `width`; a lane that reads outside it gets its own value. */
template <typename T> T __shfl_sync(unsigned mask, T x, int from, int width = 32, CUDA_HOST_WHERE)
{
    const int first = cuda_host::lane() & -width;
    return cuda_host::run_exchange(x, first + (from & (width - 1)), mask, cuda_host::run_shuffle<T>,
                                   "__shfl_sync", file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int apart, int width = 32, CUDA_HOST_WHERE)
{
    const int lane = cuda_host::lane(), from = lane ^ apart;
    const bool beyond = from > (lane | (width - 1));
    return cuda_host::run_exchange(x, beyond ? lane : from, mask, cuda_host::run_shuffle<T>,
                                   "__shfl_xor_sync", file, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned apart, int width = 32, CUDA_HOST_WHERE)
{
    const int lane = cuda_host::lane(), from = lane + (int)apart;
    const bool beyond = from > (lane | (width - 1));
    return cuda_host::run_exchange(x, beyond ? lane : from, mask, cuda_host::run_shuffle<T>,
                                   "__shfl_down_sync", file, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned apart, int width = 32, CUDA_HOST_WHERE)
{
    const int lane = cuda_host::lane(), from = lane - (int)apart;
    const bool beyond = from < (lane & -width);
    return cuda_host::run_exchange(x, beyond ? lane : from, mask, cuda_host::run_shuffle<T>,
                                   "__shfl_up_sync", file, line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, CUDA_HOST_WHERE)
{
    return cuda_host::run_exchange(vote != 0 ? 1u : 0u, 0, mask, cuda_host::run_ballot,
                                   "__ballot_sync", file, line);
}
inline int __any_sync(unsigned mask, int vote, CUDA_HOST_WHERE)
{
    return __ballot_sync(mask, vote, file, line) != 0;
}
inline int __all_sync(unsigned mask, int vote, CUDA_HOST_WHERE)
{
    return __ballot_sync(mask, !vote, file, line) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_WHERE)
{
    cuda_host::run_exchange(0u, 0, mask, cuda_host::run_sync, "__syncwarp", file, line);
}
[[noreturn]] inline void __trap()
{
    cuda_host::kernel_error("__trap");
}

#endif
