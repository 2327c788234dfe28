#include "kernels/cuda/update_copies.cuh"

/* A block per segment. A thread's sums of 32 elements are float, all further sums double. */

#define THREADS   256
#define SUM_TURNS 8
static_assert(SQUARES_SEGMENT % (4 * THREADS * SUM_TURNS) == 0, "a block reads whole segments");

/* A thread's sum over `count` elements, which its block reads in turns. */
template <typename T> DEVICE_INLINE double squares_of(const T *x, int64_t count, bool aligned)
{
    constexpr int N = wide_n<T>, TURNS = SUM_TURNS * 4 / N, BLOCK = N * TURNS * THREADS;
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        float s[N] = {};
        if (aligned && begin + BLOCK <= count) {
            vec<T, N> v[TURNS];
#pragma unroll
            for (int i = 0; i < TURNS; i++)
                v[i] = load_vec<N>(x + begin + N * (i * THREADS + (int)threadIdx.x));
#pragma unroll
            for (int i = 0; i < TURNS; i++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    s[j] = __fmaf_rn(to_float(v[i][j]), to_float(v[i][j]), s[j]);
        } else {
            for (int i = 0; i < TURNS; i++)
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const int64_t at = begin + N * (i * THREADS + (int)threadIdx.x) + j;
                    const float v = at < count ? to_float(x[at]) : 0;
                    s[j] = __fmaf_rn(v, v, s[j]);
                }
        }
#pragma unroll
        for (int j = 0; j < N; j += 4)
            sum += ((double)s[j] + (double)s[j + 1]) + ((double)s[j + 2] + (double)s[j + 3]);
    }
    return sum;
}

DEVICE_INLINE bool is_wide(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static __global__ void sums_of_squares(const float *x, int64_t count, double *sums)
{
    const int64_t first = (int64_t)blockIdx.x * SQUARES_SEGMENT;
    const int64_t end = min(first + SQUARES_SEGMENT, count);
    const double sum = block_sum(squares_of(x + first, end - first, is_wide(x)));
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

/* The same with compact parts. */
static __global__ void sums_of_squares_of_parts(const float *x, int64_t count,
                                                const update_copy *copies, int64_t copy_count,
                                                double *sums)
{
    int64_t at = (int64_t)blockIdx.x * SQUARES_SEGMENT;
    const int64_t end = min(at + SQUARES_SEGMENT, count);
    double sum = 0;
    for (int64_t k = first_copy(copies, copy_count, at); at < end; k++) {
        const bool any = k < copy_count && copies[k].first < end;
        const int64_t next = any ? max((long long)copies[k].first, (long long)at) : end;
        if (any && !copies[k].gradient)
            continue;
        sum += squares_of(x + at, next - at, is_wide(x + at));
        at = next;
        if (!any)
            break;
        const update_copy c = copies[k];
        const int64_t from = at - c.first, size = min(end, c.first + c.count) - at;
        WITH_COPY_TYPE(c, T, {
            const T *compact = (const T *)c.gradient + from;
            sum += squares_of(compact, size, is_wide(compact));
        });
        at += size;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

void cuda_square_sums(struct device *d, const struct square_sums_args *a)
{
    const unsigned blocks = (unsigned)squares_segments(a->count);
    if (a->count == 0)
        return;
    if (a->copies)
        LAUNCH(sums_of_squares_of_parts, blocks, THREADS, 0, stream_of(d), a->x, a->count,
               (const update_copy *)a->copies->table->data, a->copies->count, a->sums);
    else
        LAUNCH(sums_of_squares, blocks, THREADS, 0, stream_of(d), a->x, a->count, a->sums);
}
