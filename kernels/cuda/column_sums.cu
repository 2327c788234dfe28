#include "kernels/cuda/column_sums.cuh"

#include "kernels/cuda/map.cuh"

/* Reads x once. A block sums 32 vectors of columns over a range of rows, each warp every eighth
 * row. If there are too few columns for the GPU, several blocks share the rows and a second launch
 * of the same kernel adds their sums. */
constexpr int WARPS = 8, TURNS = 8; /* rows per warp whose loads are in flight together */

template <typename T, int N>
static __global__ void __launch_bounds__(32 * WARPS)
    sum_columns(float *to, bool add, const T *x, int64_t rows, int64_t columns, int64_t pitch,
                int64_t rows_per_block)
{
    __shared__ __align__(16) float sums[WARPS][32 * N];
    const int64_t first = (int64_t)blockIdx.x * (32 * N), column = first + threadIdx.x * N;
    const int64_t begin = blockIdx.y * rows_per_block;
    const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    vec<float, N> sum;
#pragma unroll
    for (int j = 0; j < N; j++)
        sum[j] = 0;
    if (column < columns) {
        int64_t row = begin + threadIdx.y;
        for (; row + (TURNS - 1) * WARPS < end; row += TURNS * WARPS) {
            vec<T, N> in[TURNS];
#pragma unroll
            for (int i = 0; i < TURNS; i++)
                in[i] = load_vec<N>(x + (row + i * WARPS) * pitch + column);
#pragma unroll
            for (int i = 0; i < TURNS; i++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    sum[j] += to_float(in[i][j]);
        }
        for (; row < end; row += WARPS) {
            const vec<T, N> in = load_vec<N>(x + row * pitch + column);
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] += to_float(in[j]);
        }
    }
    store_vec(&sums[threadIdx.y][threadIdx.x * N], sum);
    __syncthreads();
    for (int j = thread_rank(); j < 32 * N && first + j < columns; j += 32 * WARPS) {
        float all = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++)
            all += sums[warp][j];
        float *out = to + blockIdx.y * columns + first + j;
        *out = add ? *out + all : all;
    }
}

template <typename T, int N>
static void run(struct device *d, float *sums, const T *x, int64_t rows, int64_t columns,
                int64_t pitch)
{
    /* About four blocks per multiprocessor of an H100, but at least 64 rows per range. */
    const int64_t strips = divide_up(columns, 32 * wide_n<T>), blocks = divide_up(columns, 32 * N);
    int64_t parts = divide_up(512, strips);
    if (parts > rows / 64)
        parts = rows < 64 ? 1 : rows / 64;
    const dim3 threads(32, WARPS);
    if (parts == 1) {
        LAUNCH((sum_columns<T, N>), dim3((unsigned)blocks), threads, 0, stream_of(d), sums, true, x,
               rows, columns, pitch, rows);
        return;
    }
    scratch of_parts(d, (size_t)(parts * columns) * sizeof(float));
    LAUNCH((sum_columns<T, N>), dim3((unsigned)blocks, (unsigned)parts), threads, 0, stream_of(d),
           of_parts.as<float>(), false, x, rows, columns, pitch, divide_up(rows, parts));
    LAUNCH((sum_columns<float, 1>), dim3((unsigned)divide_up(columns, 32)), threads, 0,
           stream_of(d), sums, true, of_parts.as<const float>(), parts, columns, columns, parts);
}

void add_column_sums(struct device *d, float *sums, enum dtype dtype, const void *x, int64_t rows,
                     int64_t columns, int64_t pitch)
{
    if (rows == 0 || columns == 0)
        return;
    WITH_TYPE(dtype, T, {
        const size_t size = sizeof(T);
        if (alignment_of((uintptr_t)x, (uintptr_t)columns * size, (uintptr_t)pitch * size) == 16)
            run<T, wide_n<T>>(d, sums, (const T *)x, rows, columns, pitch);
        else
            run<T, 1>(d, sums, (const T *)x, rows, columns, pitch);
    });
}
