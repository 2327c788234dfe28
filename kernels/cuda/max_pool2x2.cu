#include "kernels/cuda/map.cuh"

/* Reads x once and writes a quarter of its size; the backward pass reads x and dy and writes dx. An
 * item is a vector of channels of a pixel of y. An odd last row or column of x is skipped. */

struct pooled {
    size_t row, image; /* vectors of x */
    unsigned pixel;    /* vectors in a pixel */
    divisor columns, channels, height;

    pooled(const struct tensor *x, int64_t vectors)
        : row((size_t)(x->shape[2] * vectors)),
          image((size_t)(x->shape[1] * x->shape[2] * vectors)), pixel((unsigned)vectors),
          columns(x->shape[2] / 2 * vectors), channels(vectors), height(x->shape[1] / 2)
    {
    }
    /* The first of the block's four vectors. */
    __device__ __forceinline__ size_t corner(unsigned i) const
    {
        unsigned line, column, of_image, y;
        columns.split(i, &line, &column);
        height.split(line, &of_image, &y);
        return of_image * image + 2 * y * row + column + channels.quotient(column) * pixel;
    }
};

template <typename T, int N> struct block {
    vec<T, N> x[4];
};

template <typename T, int N>
DEVICE_INLINE block<T, N> load_block(const T *corner, size_t row, unsigned pixel)
{
    return {{load_vec<N>(corner), load_vec<N>(corner + pixel), load_vec<N>(corner + row),
             load_vec<N>(corner + row + pixel)}};
}

/* The index of the maximum of four: the first of equal ones; NaN ranks above all numbers. */
DEVICE_INLINE int greatest_of(const float (&x)[4])
{
    int which = 0;
    float most = x[0];
#pragma unroll
    for (int k = 1; k < 4; k++)
        if (x[k] > most || isnan(x[k])) {
            which = k;
            most = x[k];
        }
    return which;
}

template <typename T, int N> struct max_pool_items {
    static constexpr int UNROLL = 1;
    typedef block<T, N> loaded;
    const T *x;
    T *y;
    pooled of;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return load_block<T, N>(x + of.corner(i) * N, of.row * N, of.pixel * N);
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<T, N> out;
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float four[4] = {to_float(in.x[0][j]), to_float(in.x[1][j]), to_float(in.x[2][j]),
                                   to_float(in.x[3][j])};
            const int which = greatest_of(four);
            out[j] = which == 0   ? in.x[0][j]
                     : which == 1 ? in.x[1][j]
                     : which == 2 ? in.x[2][j]
                                  : in.x[3][j];
        }
        store_vec(y + (size_t)i * N, out);
    }
};

template <typename T, int N> struct max_pool_backward_items {
    static constexpr int UNROLL = 1;
    struct loaded {
        block<T, N> in;
        vec<T, N> dy;
    };
    const T *x, *dy;
    T *dx;
    pooled of;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_block<T, N>(x + of.corner(i) * N, of.row * N, of.pixel * N),
                load_vec<N>(dy + (size_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &l) const
    {
        const T zero = from_float<T>(0);
        block<T, N> out;
#pragma unroll
        for (int j = 0; j < N; j++) {
            const float four[4] = {to_float(l.in.x[0][j]), to_float(l.in.x[1][j]),
                                   to_float(l.in.x[2][j]), to_float(l.in.x[3][j])};
            const int which = greatest_of(four);
#pragma unroll
            for (int k = 0; k < 4; k++)
                out.x[k][j] = which == k ? l.dy[j] : zero;
        }
        T *corner = dx + of.corner(i) * N;
        store_vec(corner, out.x[0]);
        store_vec(corner + of.pixel * N, out.x[1]);
        store_vec(corner + of.row * N, out.x[2]);
        store_vec(corner + of.row * N + of.pixel * N, out.x[3]);
    }
};

/* Calls make(lanes<N>, first element of the image in x, in y) for each run of images. */
template <typename T, typename MAKE>
static void each_image(struct device *d, const char *name, const struct tensor *x,
                       const struct tensor *y, const struct tensor *third, MAKE make)
{
    const int64_t c = x->shape[3], pixels = y->shape[1] * y->shape[2];
    const int64_t image = x->shape[1] * x->shape[2] * c;
    auto run = [&](auto vector) {
        const int64_t vectors = c / decltype(vector)::n;
        map_rows(d, name, x->shape[0], pixels * vectors, [&](int64_t first) {
            return make(vector, first * image, first * pixels * c, pooled(x, vectors));
        });
    };
    if (alignment_of(address(x), address(y), address(third), (uintptr_t)c * sizeof(T)) == 16)
        run(lanes<wide_n<T>>());
    else
        run(lanes<1>());
}

template <typename T> static void forward(struct device *d, const struct max_pool2x2_args *a)
{
    each_image<T>(
        d, "max_pool2x2", a->x, a->y, NULL,
        [&](auto vector, int64_t of_x, int64_t of_y, const pooled &of) {
            return max_pool_items<T, decltype(vector)::n>{(const T *)a->x->data + of_x,
                                                          (T *)a->y->data + of_y, of};
        });
}

template <typename T>
static void backward(struct device *d, const struct max_pool2x2_backward_args *a)
{
    const struct tensor *x = a->forward.x;
    if (x->shape[1] % 2 || x->shape[2] % 2)
        cuda_check(
            cudaMemsetAsync(a->dx->data, 0, (size_t)count_of(a->dx) * sizeof(T), stream_of(d)));
    each_image<T>(d, "max_pool2x2_backward", x, a->dy, a->dx,
                  [&](auto vector, int64_t of_x, int64_t of_y, const pooled &of) {
                      return max_pool_backward_items<T, decltype(vector)::n>{
                          (const T *)x->data + of_x, (const T *)a->dy->data + of_y,
                          (T *)a->dx->data + of_x, of};
                  });
}

void cuda_max_pool2x2(struct device *d, const struct max_pool2x2_args *a)
{
    WITH_TYPE(a->x->dtype, T, forward<T>(d, a));
}

void cuda_max_pool2x2_backward(struct device *d, const struct max_pool2x2_backward_args *a)
{
    WITH_TYPE(a->dx->dtype, T, backward<T>(d, a));
}
