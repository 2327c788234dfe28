#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/map.cuh"

#define THREADS 256

/* How a block's threads cover a matrix: x of them span vectors of columns, the others rows. */
struct tiling {
    int vector, x, y;
    unsigned grid_x;
};

static struct tiling tiling_of(int64_t columns, int vector)
{
    struct tiling t = {vector, 1, THREADS, 0};
    const int64_t vectors = columns / vector;
    while (t.x < 32 && t.x < vectors)
        t.x *= 2;
    t.y = THREADS / t.x;
    t.grid_x = (unsigned)divide_up(vectors, t.x);
    return t;
}

template <enum activation_kind ACT> DEVICE_INLINE float activated(float x)
{
    if (ACT == ACTIVATION_RELU)
        return x > 0 || isnan(x) ? x : 0; /* NaN stays NaN */
    if (ACT == ACTIVATION_SILU)
        return x / (1 + expf(-x));
    if (ACT == ACTIVATION_GELU)
        return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    if (ACT == ACTIVATION_LEAKY_RELU)
        return x < 0 ? x * LEAKY_RELU_SLOPE : x;
    return x;
}

/* Reads and writes every element once; the bias stays in registers. */
template <typename T, int V, enum activation_kind ACT>
static __global__ void __launch_bounds__(THREADS)
    bias_activate_kernel(int64_t rows, int64_t columns, const float *bias, T *y)
{
    const int64_t column = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (column >= columns)
        return;
    float b[V];
#pragma unroll
    for (int i = 0; i < V; i++)
        b[i] = bias ? bias[column + i] : 0;
    for (int64_t row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; row < rows;
         row += (int64_t)gridDim.y * blockDim.y) {
        T *p = y + row * columns + column;
        vec<float, V> x = to_floats(load_vec<V>(p));
#pragma unroll
        for (int i = 0; i < V; i++)
            x.v[i] = activated<ACT>(x.v[i] + b[i]);
        store_vec(p, from_floats<T>(x));
    }
}

template <typename T, int V>
static void launch_bias_activate(cudaStream_t stream, int64_t rows, int64_t columns,
                                 const float *bias, enum activation_kind act, T *y)
{
    const struct tiling t = tiling_of(columns, V);
    const int64_t grid_y = divide_up(rows, (int64_t)t.y * 8);
    const dim3 grid(t.grid_x, (unsigned)(grid_y < 65535 ? grid_y : 65535)), block(t.x, t.y);
    switch (act) {
    case ACTIVATION_NONE:
        LAUNCH((bias_activate_kernel<T, V, ACTIVATION_NONE>), grid, block, 0, stream, rows, columns,
               bias, y);
        break;
    case ACTIVATION_RELU:
        LAUNCH((bias_activate_kernel<T, V, ACTIVATION_RELU>), grid, block, 0, stream, rows, columns,
               bias, y);
        break;
    case ACTIVATION_SILU:
        LAUNCH((bias_activate_kernel<T, V, ACTIVATION_SILU>), grid, block, 0, stream, rows, columns,
               bias, y);
        break;
    case ACTIVATION_GELU:
        LAUNCH((bias_activate_kernel<T, V, ACTIVATION_GELU>), grid, block, 0, stream, rows, columns,
               bias, y);
        break;
    case ACTIVATION_LEAKY_RELU:
        LAUNCH((bias_activate_kernel<T, V, ACTIVATION_LEAKY_RELU>), grid, block, 0, stream, rows,
               columns, bias, y);
        break;
    }
}

void bias_activate(struct device *d, enum dtype type, int64_t rows, int64_t columns,
                   const float *bias, enum activation_kind act, void *y)
{
    if (!rows || !columns || (!bias && act == ACTIVATION_NONE))
        return;
    WITH_TYPE(type, T, {
        if (columns % wide_n<T> == 0 && (uintptr_t)y % 16 == 0)
            launch_bias_activate<T, wide_n<T>>(stream_of(d), rows, columns, bias, act, (T *)y);
        else
            launch_bias_activate<T, 1>(stream_of(d), rows, columns, bias, act, (T *)y);
    });
}

template <typename T>
static __global__ void convert_vector_kernel(int64_t count, const float *from, T *to)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        to[i] = from_float<T>(from[i]);
}

void convert_vector(struct device *d, int64_t count, const float *from, enum dtype type, void *to)
{
    WITH_TYPE(type, T,
              LAUNCH(convert_vector_kernel<T>, (unsigned)divide_up(count, THREADS), THREADS, 0,
                     stream_of(d), count, from, (T *)to));
}

template <typename T, int N> struct relu_gradient_items {
    static constexpr int UNROLL = 4;
    struct loaded {
        vec<T, N> y, dy;
    };
    const T *y, *dy;
    T *dz;
    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_vec<N>(y + (int64_t)i * N), load_vec<N>(dy + (int64_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &x) const
    {
        vec<T, N> r = x.dy;
#pragma unroll
        for (int j = 0; j < N; j++)
            if (to_float(x.y[j]) <= 0)
                r[j] = from_float<T>(0);
        store_vec(dz + (int64_t)i * N, r);
    }
};

void relu_gradient(struct device *d, enum dtype type, int64_t count, const void *y, const void *dy,
                   void *dz)
{
    const bool aligned = ((uintptr_t)y | (uintptr_t)dy | (uintptr_t)dz) % 16 == 0;
    WITH_TYPE(type, T, {
        map_elements<wide_n<T>>(d, "relu_gradient", count, aligned, [&](auto n, int64_t at) {
            return relu_gradient_items<T, decltype(n)::n>{(const T *)y + at, (const T *)dy + at,
                                                          (T *)dz + at};
        });
    });
}
