#include "kernels/cuda/map.cuh"

/* Reads and writes every element once: four per thread, 16 bytes on the F32 side. */
template <typename FROM, typename TO, int N> struct cast_items {
    static constexpr int UNROLL = 4;
    typedef vec<FROM, N> loaded;
    const FROM *x;
    TO *y;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return load_vec<N>(x + (size_t)i * N);
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        store_vec(y + (size_t)i * N, from_floats<TO, N>(to_floats(in)));
    }
};

template <typename FROM, typename TO> static void run(struct device *d, const struct cast_args *a)
{
    const FROM *x = (const FROM *)a->x->data;
    TO *y = (TO *)a->y->data;
    const bool aligned = alignment_of(address(a->x)) >= 4 * sizeof(FROM) &&
                         alignment_of(address(a->y)) >= 4 * sizeof(TO);
    map_elements<4>(d, "cast", count_of(a->x), aligned, [&](auto n, int64_t at) {
        return cast_items<FROM, TO, decltype(n)::n>{x + at, y + at};
    });
}

void cuda_cast(struct device *d, const struct cast_args *a)
{
    WITH_TYPE(a->x->dtype, FROM, WITH_TYPE(a->y->dtype, TO, run<FROM, TO>(d, a)));
}
