/* The language of the kernels: CUDA and a thin layer over it. nvcc compiles the .cu files for a
 * GPU; with -DCUDA_ON_HOST and the headers of tests/cuda-host/include/, a C++ compiler compiles
 * them for an emulator. No other file includes a header of CUDA's runtime.
 * tests/cuda-host/README.md has an example and explains how to run and debug without a GPU.
 *
 * Available from CUDA:
 *   - __global__ __device__ __shared__ __constant__ __launch_bounds__ __restrict__
 *     __forceinline__ __align__
 *   - threadIdx blockIdx blockDim gridDim
 *   - __syncthreads __syncthreads_or __syncthreads_and __syncthreads_count __syncwarp
 *   - __shfl_sync and its _up, _down and _xor, of 4 and 8 bytes
 *   - __ballot_sync __any_sync __all_sync
 *   - atomicAdd atomicMax atomicMin atomicExch atomicCAS __threadfence
 *   - __ldg __ldcg __ldcs __stcg __stcs
 *   - the math functions; float2, uint4 and the other vector types
 *   - the runtime's memory, copies, streams, events and graphs
 * Not available: __noinline__, textures, managed memory, cooperative groups, shared memory of other
 * blocks, dynamic parallelism, half2 arithmetic (compute in float).
 *
 * Added here:
 *   - LAUNCH(kernel, grid, block, shared_bytes, stream, args...) replaces <<<>>>. Put a template
 *     with commas in parentheses: LAUNCH((scale<float, 4>), ...). Write null pointers as nullptr,
 *     not 0. A refused launch ends the program. Kernels of more than 256 threads per block need
 *     __launch_bounds__(threads), or they may use more registers than there are.
 *   - LAUNCH_CLUSTER(kernel, blocks, grid, ...): in clusters of `blocks` blocks along x, which run
 *     at the same time; cluster_fits says whether the GPU can. cluster_barrier() waits for all
 *     threads of the cluster, which then see what the others have written to device memory before
 *     (read it by load_vec_l2 or __ldcg).
 *   - DYNAMIC_SHARED(type, name) replaces extern __shared__: name is a type * to the launch's
 *     shared_bytes, aligned to 128 bytes. LAUNCH requests more than 48 KiB where needed. Static
 *     __shared__ memory is limited to 48 KiB.
 *   - half_t and bf16_t, for storage only; to_float(x), from_float<T>(f) (to nearest even)
 *   - vec<T, N>, wide<T>, load_vec, store_vec, to_floats, from_floats: 16-byte accesses
 *   - thread_rank; warp_sum, block_sum: fixed order, the same bits in all threads
 *   - ldmatrix_x4, ldmatrix_x4_trans, pack2<T>, mma_16x8x16<T>
 *   - cp_async_16, cp_async_commit, cp_async_wait<N>
 *   - cuda_check(call) ends the program with a one-line message unless the call returns
 *     cudaSuccess; cuda_die(format, ...) always does.
 *
 * Every thread of a block must reach every __syncthreads (none may have returned before), and every
 * lane of the mask must reach every warp function. The emulator enforces both. */
#ifndef CCLD_KERNELS_CUDA_CUDA_CUH
#define CCLD_KERNELS_CUDA_CUDA_CUH

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Accidental arithmetic in 16 bits does not compile. */
#define __CUDA_NO_HALF_OPERATORS__
#define __CUDA_NO_HALF_CONVERSIONS__
#define __CUDA_NO_HALF2_OPERATORS__
#define __CUDA_NO_BFLOAT16_OPERATORS__
#define __CUDA_NO_BFLOAT16_CONVERSIONS__
#define __CUDA_NO_BFLOAT162_OPERATORS__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "the kernels need cp.async and mma of bf16: sm_80 or later"
#endif

#define DEVICE_INLINE static __device__ __forceinline__

/* ---- errors: the loader of the kernels sets the handler of the last message; it must not return
 */

inline void (*cuda_die_handler)(const char *line) = nullptr;

[[noreturn]] inline void __attribute__((format(printf, 1, 2))) cuda_die(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (cuda_die_handler)
        cuda_die_handler(line);
    fprintf(stderr, "%s\n", line);
    exit(1);
}

inline void cuda_check_result(cudaError_t result, const char *call)
{
    if (result != cudaSuccess)
        cuda_die("CUDA: %.*s: %s", (int)strcspn(call, "("), call, cudaGetErrorString(result));
}
#define cuda_check(call) cuda_check_result(call, #call)

#include "kernels/cuda/launch.cuh"

/* ---- element types */

typedef __half half_t;
typedef __nv_bfloat16 bf16_t;

DEVICE_INLINE float to_float(float x)
{
    return x;
}
DEVICE_INLINE float to_float(half_t x)
{
    return __half2float(x);
}
DEVICE_INLINE float to_float(bf16_t x)
{
    return __bfloat162float(x);
}

template <typename T> DEVICE_INLINE T from_float(float f);
template <> __device__ __forceinline__ float from_float<float>(float f)
{
    return f;
}
template <> __device__ __forceinline__ half_t from_float<half_t>(float f)
{
    return __float2half_rn(f);
}
template <> __device__ __forceinline__ bf16_t from_float<bf16_t>(float f)
{
    return __float2bfloat16_rn(f);
}

/* Packs two elements into a register of a fragment (see below), the first in the lower 16 bits. */
template <typename T> DEVICE_INLINE unsigned pack2(float low, float high);
template <> __device__ __forceinline__ unsigned pack2<half_t>(float low, float high)
{
    const __half2 both = __floats2half2_rn(low, high);
    unsigned r;
    memcpy(&r, &both, sizeof r);
    return r;
}
template <> __device__ __forceinline__ unsigned pack2<bf16_t>(float low, float high)
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    unsigned r;
    memcpy(&r, &both, sizeof r);
    return r;
}

/* ---- vectors of N elements; N * sizeof(T) is 2, 4, 8 or a multiple of 16; 16-byte accesses */

template <typename T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) vec {
    T v[N];
    __host__ __device__ __forceinline__ T &operator[](int i)
    {
        return v[i];
    }
    __host__ __device__ __forceinline__ const T &operator[](int i) const
    {
        return v[i];
    }
};
template <typename T> constexpr int wide_n = 16 / (int)sizeof(T); /* elements in 16 bytes */
template <typename T> using wide = vec<T, wide_n<T>>;

template <int BYTES> struct vec_word {
    typedef uint4 type;
};
template <> struct vec_word<8> {
    typedef uint2 type;
};
template <> struct vec_word<4> {
    typedef unsigned type;
};
template <> struct vec_word<2> {
    typedef unsigned short type;
};

/* p must be aligned like vec<T, N>: to its size, up to 16 bytes. load_vec<8>(p) loads 8 elements,
 * load_vec(p) 16 bytes. */
template <int N, typename T> DEVICE_INLINE vec<T, N> load_vec(const T *p)
{
    typedef typename vec_word<(int)(N * sizeof(T))>::type word;
    vec<T, N> r;
#ifdef CUDA_ON_HOST
    cuda_host::check_aligned(p, alignof(vec<T, N>), "load_vec");
#endif
#pragma unroll
    for (int i = 0; i < (int)(sizeof r / sizeof(word)); i++) {
        word w = reinterpret_cast<const word *>(p)[i];
        memcpy(reinterpret_cast<char *>(&r) + i * sizeof w, &w, sizeof w);
    }
    return r;
}
template <typename T> DEVICE_INLINE wide<T> load_vec(const T *p)
{
    return load_vec<wide_n<T>>(p);
}

/* The same of what other blocks have written during this launch: from L2. */
template <int N, typename T> DEVICE_INLINE vec<T, N> load_vec_l2(const T *p)
{
    typedef typename vec_word<(int)(N * sizeof(T))>::type word;
    vec<T, N> r;
#pragma unroll
    for (int i = 0; i < (int)(sizeof r / sizeof(word)); i++) {
        word w = __ldcg(reinterpret_cast<const word *>(p) + i);
        memcpy(reinterpret_cast<char *>(&r) + i * sizeof w, &w, sizeof w);
    }
    return r;
}

template <typename T, int N> DEVICE_INLINE void store_vec(T *p, const vec<T, N> &x)
{
    typedef typename vec_word<(int)(N * sizeof(T))>::type word;
#ifdef CUDA_ON_HOST
    cuda_host::check_aligned(p, alignof(vec<T, N>), "store_vec");
#endif
#pragma unroll
    for (int i = 0; i < (int)(sizeof x / sizeof(word)); i++) {
        word w;
        memcpy(&w, reinterpret_cast<const char *>(&x) + i * sizeof w, sizeof w);
        reinterpret_cast<word *>(p)[i] = w;
    }
}

template <typename T, int N> DEVICE_INLINE vec<float, N> to_floats(const vec<T, N> &x)
{
    vec<float, N> r;
#pragma unroll
    for (int i = 0; i < N; i++)
        r.v[i] = to_float(x.v[i]);
    return r;
}
template <typename T, int N> DEVICE_INLINE vec<T, N> from_floats(const vec<float, N> &x)
{
    vec<T, N> r;
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
        /* One instruction for two elements; and if elements are rounded one by one, nvcc splits
         * 16-byte stores into words of 4. */
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const unsigned both = pack2<T>(x.v[i], x.v[i + 1]);
            memcpy(&r.v[i], &both, sizeof both);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            r.v[i] = from_float<T>(x.v[i]);
    }
    return r;
}

/* ---- sums of float or double. Every lane (thread) gets the same bits. */

DEVICE_INLINE int thread_rank()
{
    return (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}

/* All 32 lanes take part. */
template <typename T> DEVICE_INLINE T warp_sum(T x)
{
#ifdef CUDA_ON_HOST
    return cuda_host::warp_sum(x);
#else
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
#endif
}

/* All threads of the block take part; their number is a multiple of 32. Two barriers, the first
 * before anything is written, so that calls may follow one another. N sums at once need no more. */
template <typename T, int N> DEVICE_INLINE void block_sum(T (&x)[N])
{
    __shared__ T of_warp[N][32];
    const int rank = thread_rank();
    const int warps = (int)(blockDim.x * blockDim.y * blockDim.z) / 32;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        T sum = warp_sum(x[i]);
        if (rank % 32 == 0)
            of_warp[i][rank / 32] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = warp_sum(rank % 32 < warps ? of_warp[i][rank % 32] : T(0));
}
template <typename T> DEVICE_INLINE T block_sum(T x)
{
    T one[1] = {x};
    block_sum(one);
    return one[0];
}

/* ---- the last of several blocks */

/* Whether this block is the last of `blocks` to call it with this counter, which is zero before and
 * afterwards; it sees what the others wrote before their call. All threads of the block take part
 * and get the same answer. */
DEVICE_INLINE bool is_last_block(unsigned *counter, unsigned blocks)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (thread_rank() == 0) {
        last = atomicAdd(counter, 1u) == blocks - 1;
        if (last)
            *counter = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}

/* ---- matrix products of a warp; all 32 lanes take part, T is half_t or bf16_t
 *
 * c[16][8] += a[16][16] b[16][8], accumulated in float; the fragments of PTX's m16n8k16, row.col.
 * Lane l has g = l / 4 and t = 2 (l % 4). It holds, the lower column or row in the lower 16 bits:
 *   a[0] = A[g][t, t+1]        a[1] = A[g+8][t, t+1]
 *   a[2] = A[g][t+8, t+9]      a[3] = A[g+8][t+8, t+9]
 *   b[0] = B[t, t+1][g]        b[1] = B[t+8, t+9][g]
 *   c[0], c[1] = C[g][t, t+1]  c[2], c[3] = C[g+8][t, t+1]
 *
 * ldmatrix loads four 8x8 matrices of 16-bit elements from shared memory: lane l gives the address,
 * aligned to 16 bytes, of row l % 8 of matrix l / 8, and r[i] becomes M_i[g][t, t+1], or
 * M_i[t, t+1][g] with _trans. For a tile S in shared memory, and B of two products side by side:
 *   A stored as S[m][k]: x4, lane l at &S[l % 16][8 (l / 16)]
 *   B stored as S[n][k]: x4, lane l at &S[l % 8 + 8 (l / 16)][8 (l / 8 % 2)]
 *   B stored as S[k][n]: x4_trans, lane l at &S[l % 16][8 (l / 16)]
 * Rows 16 bytes apart modulo 128 (a pitch of a multiple of 64 elements plus 8) have no bank
 * conflicts. */

#ifdef CUDA_ON_HOST
template <typename T>
DEVICE_INLINE void mma_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2])
{
    cuda_host::mma_16x8x16<T>(c, a, b);
}
DEVICE_INLINE void ldmatrix_x4(unsigned (&r)[4], const void *row)
{
    cuda_host::ldmatrix(r, row, false);
}
DEVICE_INLINE void ldmatrix_x4_trans(unsigned (&r)[4], const void *row)
{
    cuda_host::ldmatrix(r, row, true);
}
#else
template <typename T>
DEVICE_INLINE void mma_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
template <>
__device__ __forceinline__ void mma_16x8x16<half_t>(float (&c)[4], const unsigned (&a)[4],
                                                    const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ __forceinline__ void mma_16x8x16<bf16_t>(float (&c)[4], const unsigned (&a)[4],
                                                    const unsigned (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE_INLINE unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}
DEVICE_INLINE void ldmatrix_x4(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE_INLINE void ldmatrix_x4_trans(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
#endif

/* ---- asynchronous copies of 16 bytes from device to shared memory, both aligned to 16 bytes
 *
 * A thread's copies since its last commit make a group; wait<N> waits for all of its groups but
 * the N latest. Other threads see the data after a __syncthreads() that follows the wait.
 * If `valid` is false, 16 zero bytes are written and `global` is not read, but must not be null. */

#ifdef CUDA_ON_HOST
DEVICE_INLINE void cp_async_16(void *shared, const void *global, bool valid = true)
{
    cuda_host::cp_async_16(shared, global, valid);
}
DEVICE_INLINE void cp_async_commit()
{
    cuda_host::cp_async_commit();
}
template <int N> DEVICE_INLINE void cp_async_wait()
{
    cuda_host::cp_async_wait(N);
}
#else
DEVICE_INLINE void cp_async_16(void *shared, const void *global, bool valid = true)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
                 : "memory");
}
DEVICE_INLINE void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N> DEVICE_INLINE void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

#endif
