#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/map.cuh"

/* add reads both inputs and writes one output. add_rows reads and writes the activations once; rows
 * come from the cache for all images but the first. */

template <typename T, int N> struct add_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        vec<T, N> a, b;
    };
    const T *a, *b;
    T *y;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_vec<N>(a + (size_t)i * N), load_vec<N>(b + (size_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> out;
#pragma unroll
        for (int j = 0; j < N; j++)
            out[j] = to_float(in.a[j]) + to_float(in.b[j]);
        store_vec(y + (size_t)i * N, from_floats<T, N>(out));
    }
};

template <typename T, int N> struct add_rows_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        vec<T, N> x;
        vec<float, N> row;
    };
    const T *x;
    const float *rows;
    T *y;
    divisor period;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned image, at;
        period.split(i, &image, &at);
        return {load_vec<N>(x + (size_t)i * N), load_vec<N>(rows + (size_t)at * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> out;
#pragma unroll
        for (int j = 0; j < N; j++)
            out[j] = to_float(in.x[j]) + in.row[j];
        store_vec(y + (size_t)i * N, from_floats<T, N>(out));
    }
};

template <typename T> static void run_add(struct device *d, const struct add_args *a)
{
    const T *left = (const T *)a->a->data, *right = (const T *)a->b->data;
    T *y = (T *)a->y->data;
    const bool aligned = alignment_of(address(a->a), address(a->b), address(a->y)) == 16;
    map_elements<wide_n<T>>(d, "add", count_of(a->y), aligned, [&](auto n, int64_t at) {
        return add_items<T, decltype(n)::n>{left + at, right + at, y + at};
    });
}

template <typename T> static void run_add_to(struct device *d, int64_t count, const T *from, T *to)
{
    const bool aligned = alignment_of((uintptr_t)from, (uintptr_t)to) == 16;
    map_elements<wide_n<T>>(d, "add", count, aligned, [&](auto n, int64_t at) {
        return add_items<T, decltype(n)::n>{to + at, from + at, to + at};
    });
}

void add_to(struct device *d, enum dtype type, int64_t count, const void *from, void *to)
{
    WITH_TYPE(type, T, run_add_to<T>(d, count, (const T *)from, (T *)to));
}

void cuda_add(struct device *d, const struct add_args *a)
{
    WITH_TYPE(a->y->dtype, T, run_add<T>(d, a));
}

template <typename T, int N>
static void run_add_rows(struct device *d, const struct add_rows_args *a)
{
    const int64_t period = count_of(a->rows), images = count_of(a->x) / period;
    map_rows(d, "add_rows", images, period / N, [&](int64_t image) {
        return add_rows_items<T, N>{(const T *)a->x->data + image * period,
                                    (const float *)a->rows->data, (T *)a->y->data + image * period,
                                    divisor(period / N)};
    });
}

void cuda_add_rows(struct device *d, const struct add_rows_args *a)
{
    WITH_TYPE(
        a->y->dtype, T,
        {
            const uintptr_t bytes = (uintptr_t)count_of(a->rows) * sizeof(T);
            if (alignment_of(address(a->x), address(a->rows), address(a->y), bytes) == 16)
                run_add_rows<T, wide_n<T>>(d, a);
            else
                run_add_rows<T, 1>(d, a);
        });
}

void cuda_add_rows_backward(struct device *d, const struct add_rows_backward_args *a)
{
    const int64_t period = count_of(a->drows);
    add_column_sums(d, (float *)a->drows->data, a->dy->dtype, a->dy->data, count_of(a->dy) / period,
                    period, period);
}
