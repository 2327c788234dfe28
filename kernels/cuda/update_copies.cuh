#ifndef CCLD_KERNELS_CUDA_UPDATE_COPIES_CUH
#define CCLD_KERNELS_CUDA_UPDATE_COPIES_CUH

/* The table of struct update_copies within kernels. */

#include "kernels/cuda/internal.cuh"

/* The first copy that ends after this element. */
DEVICE_INLINE int64_t first_copy(const update_copy *copies, int64_t count, int64_t element)
{
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (copies[middle].first + copies[middle].count <= element)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Runs a statement with T as the type of a copy's elements. */
#define WITH_COPY_TYPE(c_, T, ...)                                                                 \
    do {                                                                                           \
        if ((c_).dtype == DTYPE_BF16) {                                                            \
            using T = bf16_t;                                                                      \
            __VA_ARGS__;                                                                           \
        } else if ((c_).dtype == DTYPE_F16) {                                                      \
            using T = half_t;                                                                      \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using T = float;                                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/* Of one filter, elements begin .. end: calls f(place in the copy, element - begin) so that
 * adjacent threads of THREADS get adjacent places. */
template <int THREADS, typename F>
DEVICE_INLINE void for_filter(const update_copy &c, int64_t filter, int begin, int end, F f)
{
    const int window = (int)c.window, c0 = begin / window;
    const int channels = (end + window - 1) / window - c0;
    for (int j = (int)threadIdx.x; j < channels * window; j += THREADS) {
        const int tap = j / channels, channel = c0 + j - tap * channels;
        const int i = channel * window + tap;
        if (i >= begin && i < end)
            f(filter + tap * c.channels + channel, i - begin);
    }
}

/* Of elements begin .. end of the whole array: calls f(place in the copy, element - begin) for
 * those that are c's. */
template <int THREADS, typename F>
DEVICE_INLINE void for_copied(const update_copy &c, int64_t begin, int64_t end, F f)
{
    const int64_t from = max((long long)begin, (long long)c.first) - c.first;
    const int64_t until = min((long long)end, (long long)(c.first + c.count)) - c.first;
    const int64_t before = c.first + from - begin;
    if (c.window == 1) {
        for (int64_t i = from + (int)threadIdx.x; i < until; i += THREADS)
            f(i, (int)(before + i - from));
        return;
    }
    const int64_t size = c.channels * c.window;
    for (int64_t filter = from / size * size; filter < until; filter += size) {
        const int64_t first = max((long long)from, (long long)filter);
        const int64_t last = min((long long)until, (long long)(filter + size));
        for_filter<THREADS>(
            c, filter, (int)(first - filter), (int)(last - filter),
            [&](int64_t place, int i) { f(place, (int)(before + first - from) + i); });
    }
}

#endif
