#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/internal.cuh"

/* One warp per row, with up to 1024 elements in registers: the forward pass reads x and writes y;
 * the backward pass reads x and dy, writes dx and, for some rows each, partial sums for gamma and
 * beta, which a second launch adds. Longer or unaligned rows are read again for each sum, mostly
 * from L1.
 *
 * x is taken relative to its row's first element, so that near-constant rows keep their digits. */

constexpr int WARPS = 8;
constexpr int UNIT = 256; /* elements of a row that a warp holds in 8 F32 registers per lane */
constexpr int UNITS = 4;

struct row_statistics {
    float shift, mean, inverse; /* mean of x - shift */
};

/* ---- rows in registers. Vector i of lane l begins at column (32 i + l) VEC. */

template <typename T, int UNITS_> struct row {
    static constexpr int VEC = wide_n<T>, COUNT = UNITS_ * UNIT / 32 / VEC;
    vec<T, VEC> part[COUNT];

    static __device__ __forceinline__ int column(int i)
    {
        return (i * 32 + (int)threadIdx.x) * VEC;
    }
    __device__ __forceinline__ void load(const T *x, int c)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            if (column(i) < c)
                part[i] = load_vec<VEC>(x + column(i));
    }
    __device__ __forceinline__ row_statistics statistics(const T *x, int c, float eps) const
    {
        row_statistics s;
        float sum = 0, squares = 0;
        s.shift = to_float(x[0]);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            if (column(i) < c)
#pragma unroll
                for (int j = 0; j < VEC; j++)
                    sum += to_float(part[i][j]) - s.shift;
        s.mean = warp_sum(sum) / c;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (column(i) < c) {
#pragma unroll
                for (int j = 0; j < VEC; j++) {
                    const float deviation = to_float(part[i][j]) - s.shift - s.mean;
                    squares = fmaf(deviation, deviation, squares);
                }
            }
        }
        s.inverse = 1.0f / sqrtf(warp_sum(squares) / c + eps);
        return s;
    }
};

template <typename T, int UNITS_>
static __global__ void __launch_bounds__(32 * WARPS)
    normalize_rows(const T *x, const float *gamma, const float *beta, T *y, int64_t rows, int c,
                   float eps)
{
    typedef row<T, UNITS_> row_type;
    const int64_t r = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (r >= rows)
        return;
    row_type in;
    in.load(x + r * c, c);
    const row_statistics s = in.statistics(x + r * c, c, eps);
#pragma unroll
    for (int i = 0; i < row_type::COUNT; i++) {
        const int column = row_type::column(i);
        if (column < c) {
            const auto g = load_vec<row_type::VEC>(gamma + column);
            const auto b = load_vec<row_type::VEC>(beta + column);
            auto f = to_floats(in.part[i]);
#pragma unroll
            for (int j = 0; j < row_type::VEC; j++)
                f[j] = fmaf((f[j] - s.shift - s.mean) * s.inverse, g[j], b[j]);
            store_vec(y + r * c + column, from_floats<T>(f));
        }
    }
}

/* Adds each lane's columns over the block's warps and writes the sums to `to`. shared: WARPS * c
 * floats. */
template <typename ROW>
DEVICE_INLINE void sum_warps(float *to, const float (&of_mine)[ROW::COUNT][ROW::VEC], int c,
                             float *shared)
{
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ROW::COUNT; i++) {
        vec<float, ROW::VEC> sums;
#pragma unroll
        for (int j = 0; j < ROW::VEC; j++)
            sums[j] = of_mine[i][j];
        if (ROW::column(i) < c)
            store_vec(shared + threadIdx.y * c + ROW::column(i), sums);
    }
    __syncthreads();
    for (int j = thread_rank(); j < c; j += 32 * WARPS) {
        float sum = 0;
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++)
            sum += shared[warp * c + j];
        to[j] = sum;
    }
}

/* With u the normalized x and du = dy * gamma: dx = (du - mean(du) - u * mean(du * u)) * inverse.
 * dx may be null. partial: [block, 2, c], sums of dy and of dy * u over the block's rows, or null.
 */
template <typename T, int UNITS_>
static __global__ void __launch_bounds__(32 * WARPS)
    normalize_rows_backward(const T *x, const T *dy, const float *gamma, T *dx, float *partial,
                            int64_t rows, int rows_per_block, int c, float eps)
{
    typedef row<T, UNITS_> row_type;
    constexpr int VEC = row_type::VEC, COUNT = row_type::COUNT;
    DYNAMIC_SHARED(float, shared);
    float dbeta[COUNT][VEC] = {}, dgamma[COUNT][VEC] = {};
    const int64_t begin = (int64_t)blockIdx.x * rows_per_block;
    const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    for (int64_t r = begin + threadIdx.y; r < end; r += WARPS) {
        row_type in, gradient;
        in.load(x + r * c, c);
        gradient.load(dy + r * c, c);
        const row_statistics s = in.statistics(x + r * c, c, eps);
        float mean = 0, projection = 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (row_type::column(i) < c) {
                const auto g = load_vec<VEC>(gamma + row_type::column(i));
#pragma unroll
                for (int j = 0; j < VEC; j++) {
                    const float u = (to_float(in.part[i][j]) - s.shift - s.mean) * s.inverse;
                    const float d = to_float(gradient.part[i][j]);
                    dbeta[i][j] += d;
                    dgamma[i][j] = fmaf(d, u, dgamma[i][j]);
                    mean = fmaf(d, g[j], mean);
                    projection = fmaf(d * g[j], u, projection);
                }
            }
        }
        if (!dx)
            continue;
        mean = warp_sum(mean) / c;
        projection = warp_sum(projection) / c;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (row_type::column(i) < c) {
                const auto g = load_vec<VEC>(gamma + row_type::column(i));
                vec<float, VEC> out;
#pragma unroll
                for (int j = 0; j < VEC; j++) {
                    const float u = (to_float(in.part[i][j]) - s.shift - s.mean) * s.inverse;
                    out[j] =
                        fmaf(-u, projection, fmaf(to_float(gradient.part[i][j]), g[j], -mean)) *
                        s.inverse;
                }
                store_vec(dx + r * c + row_type::column(i), from_floats<T>(out));
            }
        }
    }
    if (partial) {
        float *of_block = partial + (int64_t)blockIdx.x * 2 * c;
        sum_warps<row_type>(of_block, dbeta, c, shared);
        sum_warps<row_type>(of_block + c, dgamma, c, shared);
    }
}

/* ---- rows of any length and alignment: a block works on one row at a time */

template <typename T> DEVICE_INLINE row_statistics any_statistics(const T *x, int64_t c, float eps)
{
    row_statistics s;
    float sum = 0, squares = 0;
    s.shift = to_float(x[0]);
    for (int64_t j = threadIdx.x; j < c; j += blockDim.x)
        sum += to_float(x[j]) - s.shift;
    s.mean = block_sum(sum) / c;
    for (int64_t j = threadIdx.x; j < c; j += blockDim.x) {
        const float deviation = to_float(x[j]) - s.shift - s.mean;
        squares = fmaf(deviation, deviation, squares);
    }
    s.inverse = 1.0f / sqrtf(block_sum(squares) / c + eps);
    return s;
}

template <typename T>
static __global__ void __launch_bounds__(256)
    normalize_any(const T *x, const float *gamma, const float *beta, T *y, int64_t c, float eps)
{
    x += blockIdx.x * c;
    y += blockIdx.x * c;
    const row_statistics s = any_statistics(x, c, eps);
    for (int64_t j = threadIdx.x; j < c; j += blockDim.x)
        y[j] =
            from_float<T>(fmaf((to_float(x[j]) - s.shift - s.mean) * s.inverse, gamma[j], beta[j]));
}

template <typename T>
static __global__ void __launch_bounds__(256)
    normalize_any_backward(const T *x, const T *dy, const float *gamma, T *dx, float *partial,
                           int64_t rows, int rows_per_block, int64_t c, float eps)
{
    const int64_t begin = (int64_t)blockIdx.x * rows_per_block;
    const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
    float *dbeta = partial + (int64_t)blockIdx.x * 2 * c, *dgamma = dbeta + c;
    for (int64_t r = begin; r < end; r++) {
        const T *in = x + r * c, *gradient = dy + r * c;
        const row_statistics s = any_statistics(in, c, eps);
        float sums[2] = {0, 0};
        for (int64_t j = threadIdx.x; j < c; j += blockDim.x) {
            const float u = (to_float(in[j]) - s.shift - s.mean) * s.inverse;
            const float d = to_float(gradient[j]);
            sums[0] = fmaf(d, gamma[j], sums[0]);
            sums[1] = fmaf(d * gamma[j], u, sums[1]);
            if (partial) { /* each column belongs to one thread throughout */
                dbeta[j] = (r > begin ? dbeta[j] : 0) + d;
                dgamma[j] = fmaf(d, u, r > begin ? dgamma[j] : 0);
            }
        }
        block_sum(sums);
        const float mean = sums[0] / c, projection = sums[1] / c;
        for (int64_t j = threadIdx.x; dx && j < c; j += blockDim.x) {
            const float u = (to_float(in[j]) - s.shift - s.mean) * s.inverse;
            dx[r * c + j] = from_float<T>(
                fmaf(-u, projection, fmaf(to_float(gradient[j]), gamma[j], -mean)) * s.inverse);
        }
    }
}

/* ---- */

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* Units of a row held in registers; 0 if it does not fit. */
template <typename T> static int units_of(int64_t c, bool aligned)
{
    return aligned && c % wide_n<T> == 0 && c <= UNITS * UNIT ? (int)divide_up(c, UNIT) : 0;
}

#define WITH_UNITS(units_, N, ...)                                                                 \
    do {                                                                                           \
        if ((units_) == 1) {                                                                       \
            constexpr int N = 1;                                                                   \
            __VA_ARGS__;                                                                           \
        } else if ((units_) == 2) {                                                                \
            constexpr int N = 2;                                                                   \
            __VA_ARGS__;                                                                           \
        } else if ((units_) == 3) {                                                                \
            constexpr int N = 3;                                                                   \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            constexpr int N = 4;                                                                   \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

static unsigned threads_for(int64_t c)
{
    return (unsigned)(c < 256 ? divide_up(c, 32) * 32 : 256);
}

template <typename T> static void forward(struct device *d, const struct layer_norm_args *a)
{
    const int64_t c = a->x->shape[a->x->ndim - 1], rows = rows_of(a->x);
    const T *x = (const T *)a->x->data;
    const float *gamma = (const float *)a->gamma->data, *beta = (const float *)a->beta->data;
    T *y = (T *)a->y->data;
    const int units =
        units_of<T>(c, is_aligned(x) && is_aligned(y) && is_aligned(gamma) && is_aligned(beta));
    if (units)
        WITH_UNITS(units, N,
                   LAUNCH((normalize_rows<T, N>), (unsigned)divide_up(rows, WARPS), dim3(32, WARPS),
                          0, stream_of(d), x, gamma, beta, y, rows, (int)c, a->eps));
    else
        LAUNCH(normalize_any<T>, (unsigned)rows, threads_for(c), 0, stream_of(d), x, gamma, beta, y,
               c, a->eps);
}

void cuda_layer_norm(struct device *d, const struct layer_norm_args *a)
{
    if (count_of(a->x))
        WITH_TYPE(a->x->dtype, T, forward<T>(d, a));
}

template <typename T>
static void backward(struct device *d, const struct layer_norm_backward_args *a)
{
    const int64_t c = a->dy->shape[a->dy->ndim - 1], rows = rows_of(a->dy);
    const T *x = (const T *)a->forward.x->data, *dy = (const T *)a->dy->data;
    const float *gamma = (const float *)a->forward.gamma->data;
    const float eps = a->forward.eps;
    T *dx = a->dx ? (T *)a->dx->data : nullptr;
    /* As many blocks, and partial sums, as an H100 runs at once. */
    int64_t per_block = divide_up(rows, 264);
    per_block = per_block < 4 * WARPS ? 4 * WARPS : per_block;
    const int64_t blocks = divide_up(rows, per_block);
    const bool parameters = a->dgamma || a->dbeta;
    const scratch sums(d, (size_t)(parameters ? blocks * 2 * c : 1) * sizeof(float));
    float *partial = parameters ? sums.as<float>() : nullptr;
    const int units =
        units_of<T>(c, is_aligned(x) && is_aligned(dy) && is_aligned(dx) && is_aligned(gamma));
    if (units)
        WITH_UNITS(units, N,
                   LAUNCH((normalize_rows_backward<T, N>), (unsigned)blocks, dim3(32, WARPS),
                          WARPS * (size_t)c * sizeof(float), stream_of(d), x, dy, gamma, dx,
                          partial, rows, (int)per_block, (int)c, eps));
    else
        LAUNCH(normalize_any_backward<T>, (unsigned)blocks, threads_for(c), 0, stream_of(d), x, dy,
               gamma, dx, partial, rows, (int)per_block, c, eps);
    if (a->dbeta)
        add_column_sums(d, (float *)a->dbeta->data, DTYPE_F32, partial, blocks, c, 2 * c);
    if (a->dgamma)
        add_column_sums(d, (float *)a->dgamma->data, DTYPE_F32, partial + c, blocks, c, 2 * c);
}

void cuda_layer_norm_backward(struct device *d, const struct layer_norm_backward_args *a)
{
    if (count_of(a->dy))
        WITH_TYPE(a->dy->dtype, T, backward<T>(d, a));
}
