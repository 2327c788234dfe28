#ifndef CCLD_KERNELS_CUDA_MAP_CUH
#define CCLD_KERNELS_CUDA_MAP_CUH

/* Single passes over memory: every thread loads the data of a few items, then stores their results,
 * so that enough loads are in flight to fill the memory bandwidth. A struct F defines the items;
 * each thread has a copy of it:
 *   - static constexpr int UNROLL: items per thread
 *   - loaded: the type that load returns
 *   - loaded load(unsigned i) const
 *   - void store(unsigned i, const loaded &x) const
 * Adjacent threads have adjacent items. */

#include <inttypes.h>

#include "kernels/cuda/internal.cuh"

constexpr int MAP_THREADS = 256;
#ifndef MAP_ITEMS_MAX
#define MAP_ITEMS_MAX (INT64_C(1) << 30) /* per launch: item indices have 32 bits */
#endif

/* Quotients of n < 2^31 by a number shared by all threads, without a division (Granlund and
 * Montgomery, "Division by invariant integers using multiplication"). */
struct divisor {
    unsigned by, multiplier, shift;
    explicit divisor(int64_t d)
        : by((unsigned)(d < MAP_ITEMS_MAX ? d
                                          : MAP_ITEMS_MAX)), /* more than n: the quotient is 0 */
          shift(0)
    {
        while ((UINT64_C(1) << shift) < by)
            shift++;
        multiplier = (unsigned)((((UINT64_C(1) << shift) - by) << 32) / by + 1);
    }
    __device__ __forceinline__ unsigned quotient(unsigned n) const
    {
        return (__umulhi(n, multiplier) + n) >> shift;
    }
    /* n = row * by + column */
    __device__ __forceinline__ void split(unsigned n, unsigned *row, unsigned *column) const
    {
        *row = quotient(n);
        *column = n - *row * by;
    }
};

template <typename F>
__global__ void __launch_bounds__(MAP_THREADS) map_kernel(const F f, unsigned count)
{
    const unsigned first = blockIdx.x * (MAP_THREADS * F::UNROLL) + threadIdx.x;
    if constexpr (F::UNROLL == 1) {
        if (first < count)
            f.store(first, f.load(first));
    } else {
        typename F::loaded x[F::UNROLL];
#pragma unroll
        for (int u = 0; u < F::UNROLL; u++) {
            const unsigned i = first + u * MAP_THREADS;
            if (i < count)
                x[u] = f.load(i);
        }
#pragma unroll
        for (int u = 0; u < F::UNROLL; u++) {
            const unsigned i = first + u * MAP_THREADS;
            if (i < count)
                f.store(i, x[u]);
        }
    }
}

/* Processes rows * per_row items in as many launches as needed: make(row) returns the F whose item
 * 0 is the first of that row. */
template <typename MAKE>
static void map_rows(struct device *d, const char *name, int64_t rows, int64_t per_row, MAKE make)
{
    if (per_row > MAP_ITEMS_MAX)
        plugin_host->die("CUDA backend: %s: rows of %" PRId64 " items are too long", name, per_row);
    const int64_t most = per_row > 0 ? MAP_ITEMS_MAX / per_row : 0;
    for (int64_t row = 0; row < rows && per_row > 0; row += most) {
        auto f = make(row);
        const unsigned count = (unsigned)((rows - row < most ? rows - row : most) * per_row);
        const unsigned blocks = (unsigned)divide_up(count, MAP_THREADS * f.UNROLL);
        launch_kernel(name, map_kernel<decltype(f)>, dim3(blocks), dim3(MAP_THREADS), 0,
                      stream_of(d), f, count);
    }
}

template <int N> struct lanes {
    static constexpr int n = N;
};

/* Processes `count` elements, N at once if `aligned`, the rest one by one:
 * make(lanes<N or 1>, first element). */
template <int N, typename MAKE>
static void map_elements(struct device *d, const char *name, int64_t count, bool aligned, MAKE make)
{
    const int64_t vectors = aligned ? count / N : 0, begin = vectors * N;
    map_rows(
        d, name, vectors, 1, [&](int64_t i) { return make(lanes<N>(), i * N); });
    map_rows(d, name, count - begin, 1, [&](int64_t i) { return make(lanes<1>(), begin + i); });
}

/* The largest power of two, up to 16, that divides addresses and sizes in bytes. */
static inline unsigned alignment_of(uintptr_t a, uintptr_t b = 0, uintptr_t c = 0, uintptr_t d = 0)
{
    const uintptr_t all = a | b | c | d | 16;
    return (unsigned)(all & -all);
}

static inline uintptr_t address(const struct tensor *t)
{
    return t ? (uintptr_t)t->data : 0;
}

/* Copies do not depend on the element type: calls run with a word of `bytes`, 2 to 16. */
template <typename RUN> static void with_word(unsigned bytes, RUN run)
{
    if (bytes == 16)
        run(uint4());
    else if (bytes == 8)
        run(uint2());
    else if (bytes == 4)
        run((unsigned)0);
    else
        run((unsigned short)0);
}

#endif
