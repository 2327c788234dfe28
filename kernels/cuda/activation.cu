#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/map.cuh"

/* Reads and writes every element once; the backward pass reads two arrays. */

template <typename T, int N> struct activation_items {
    static constexpr int UNROLL = 2;
    typedef vec<T, N> loaded;
    const T *x;
    T *y;
    enum activation_kind kind;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return load_vec<N>(x + (size_t)i * N);
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> z = to_floats(in);
        activate<T>(kind, z);
        store_vec(y + (size_t)i * N, from_floats<T, N>(z));
    }
};

template <typename T, int N> struct activation_backward_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        vec<T, N> x, dy;
    };
    const T *x, *dy;
    T *dx;
    enum activation_kind kind;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_vec<N>(x + (size_t)i * N), load_vec<N>(dy + (size_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> d = to_floats(in.dy);
        activate_backward<T>(kind, d, to_floats(in.x));
        store_vec(dx + (size_t)i * N, from_floats<T, N>(d));
    }
};

template <typename T> static void run(struct device *d, const struct activation_args *a)
{
    const T *x = (const T *)a->x->data;
    T *y = (T *)a->y->data;
    const bool aligned = alignment_of(address(a->x), address(a->y)) == 16;
    map_elements<wide_n<T>>(d, "activation", count_of(a->x), aligned, [&](auto n, int64_t at) {
        return activation_items<T, decltype(n)::n>{x + at, y + at, a->kind};
    });
}

template <typename T>
static void run_backward(struct device *d, const struct activation_backward_args *a)
{
    const T *x = (const T *)a->forward.x->data, *dy = (const T *)a->dy->data;
    T *dx = (T *)a->dx->data;
    const bool aligned = alignment_of(address(a->forward.x), address(a->dy), address(a->dx)) == 16;
    map_elements<wide_n<T>>(d, "activation_backward", count_of(a->dx), aligned,
                            [&](auto n, int64_t at) {
                                return activation_backward_items<T, decltype(n)::n>{
                                    x + at, dy + at, dx + at, a->forward.kind};
                            });
}

void cuda_activation(struct device *d, const struct activation_args *a)
{
    WITH_TYPE(a->x->dtype, T, run<T>(d, a));
}

void cuda_activation_backward(struct device *d, const struct activation_backward_args *a)
{
    WITH_TYPE(a->dx->dtype, T, run_backward<T>(d, a));
}
