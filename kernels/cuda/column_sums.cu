#include "kernels/cuda/column_sums.cuh"

#include "kernels/cuda/map.cuh"

/* Reads x once. A block sums 32 vectors of columns over a range of rows, each warp every eighth
 * row. If there are too few columns for the GPU, several blocks share the rows, and the last of
 * them adds their sums in order. */
constexpr int WARPS = 8;
/* Rows per warp whose loads are in flight together: of x, and of sums, which are wider. */
constexpr int ROWS = 8, SUMS = 2;

/* Leaves the sums of a thread's columns over rows begin .. end in its warp's row of `sums`. */
template <int N, int TURNS, typename LOAD>
DEVICE_INLINE void sum_rows(float (*sums)[32 * N], int64_t begin, int64_t end, bool inside,
                            LOAD load)
{
    vec<float, N> sum;
#pragma unroll
    for (int j = 0; j < N; j++)
        sum[j] = 0;
    if (inside) {
        int64_t row = begin + threadIdx.y;
        for (; row + (TURNS - 1) * WARPS < end; row += TURNS * WARPS) {
            decltype(load(row)) in[TURNS];
#pragma unroll
            for (int i = 0; i < TURNS; i++)
                in[i] = load(row + i * WARPS);
#pragma unroll
            for (int i = 0; i < TURNS; i++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    sum[j] += to_float(in[i][j]);
        }
        for (; row < end; row += WARPS) {
            const auto in = load(row);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] += to_float(in[j]);
        }
    }
    store_vec(&sums[threadIdx.y][threadIdx.x * N], sum);
    __syncthreads();
}

/* give(j, sum) for the strip's columns. */
template <int N, typename GIVE>
DEVICE_INLINE void sum_warps(const float (*sums)[32 * N], int64_t columns, GIVE give)
{
    for (int j = thread_rank(); j < 32 * N && j < columns; j += 32 * WARPS) {
        float all = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++)
            all += sums[warp][j];
        give(j, all);
    }
}

/* partial: [gridDim.y, columns], and counters [gridDim.x], if gridDim.y > 1. */
template <typename T, int N>
static __global__ void __launch_bounds__(32 * WARPS)
    sum_columns(float *to, bool add, const T *x, int64_t rows, int64_t columns, int64_t pitch,
                int64_t rows_per_block, float *partial, unsigned *counters)
{
    __shared__ __align__(16) float sums[WARPS][32 * N];
    const int64_t first = (int64_t)blockIdx.x * (32 * N), column = first + threadIdx.x * N;
    const int64_t begin = blockIdx.y * rows_per_block;
    const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    sum_rows<N, ROWS>(sums, begin, end, column < columns,
                      [&](int64_t row) { return load_vec<N>(x + row * pitch + column); });
    if (gridDim.y > 1) {
        float *mine = partial + blockIdx.y * columns + first;
        sum_warps<N>(sums, columns - first, [&](int j, float sum) { mine[j] = sum; });
        if (!is_last_block(counters + blockIdx.x, gridDim.y))
            return;
        sum_rows<N, SUMS>(sums, 0, gridDim.y, column < columns, [&](int64_t row) {
            return load_vec_l2<N>(partial + row * columns + column);
        });
    }
    sum_warps<N>(sums, columns - first, [&](int j, float sum) {
        float *out = to + first + j;
        *out = add ? *out + sum : sum;
    });
}

template <typename T, int N>
static void run(struct device *d, float *sums, const T *x, int64_t rows, int64_t columns,
                int64_t pitch, bool fresh)
{
    /* About four blocks per multiprocessor of an H100, but at least 64 rows per range. */
    const int64_t strips = divide_up(columns, 32 * wide_n<T>), blocks = divide_up(columns, 32 * N);
    int64_t parts = divide_up(512, strips);
    if (parts > rows / 64)
        parts = rows < 64 ? 1 : rows / 64;
    if (blocks > COUNTERS)
        parts = 1;
    const scratch of_parts(d, (size_t)(parts > 1 ? parts * columns : 1) * sizeof(float));
    LAUNCH((sum_columns<T, N>), dim3((unsigned)blocks, (unsigned)parts), dim3(32, WARPS), 0,
           stream_of(d), sums, !fresh, x, rows, columns, pitch, divide_up(rows, parts),
           of_parts.as<float>(), cuda_of(d)->counters);
}

void add_column_sums(struct device *d, float *sums, enum dtype dtype, const void *x, int64_t rows,
                     int64_t columns, int64_t pitch, bool fresh)
{
    if (columns == 0)
        return;
    if (rows == 0) {
        if (fresh)
            cuda_check(cudaMemsetAsync(sums, 0, (size_t)columns * sizeof(float), stream_of(d)));
        return;
    }
    WITH_TYPE(dtype, T, {
        const size_t size = sizeof(T);
        if (alignment_of((uintptr_t)x, (uintptr_t)columns * size, (uintptr_t)pitch * size) == 16)
            run<T, wide_n<T>>(d, sums, (const T *)x, rows, columns, pitch, fresh);
        else
            run<T, 1>(d, sums, (const T *)x, rows, columns, pitch, fresh);
    });
}
