#include "kernels/cuda/map.cuh"

/* Reads every input once. Rounds exactly as the CPU's kernel: the first product is rounded, and
 * each further term is added by a fused multiply-add. */
template <int N, int COUNT> struct combination_items {
    static constexpr int UNROLL = COUNT <= 2 ? 2 : 1;
    struct loaded {
        vec<float, N> x[COUNT];
    };
    const float *x[COUNT];
    float coefficients[COUNT];
    float *y;

    combination_items(const struct linear_combination_args *a, int64_t at)
        : y((float *)a->y->data + at)
    {
        for (int k = 0; k < COUNT; k++) {
            x[k] = (const float *)a->x[k]->data + at;
            coefficients[k] = a->coefficients[k];
        }
    }
    __device__ __forceinline__ loaded load(unsigned i) const
    {
        loaded r;
#pragma unroll
        for (int k = 0; k < COUNT; k++)
            r.x[k] = load_vec<N>(x[k] + (size_t)i * N);
        return r;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> sum;
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum[j] = __fmul_rn(coefficients[0], in.x[0][j]);
#pragma unroll
            for (int k = 1; k < COUNT; k++)
                sum[j] = __fmaf_rn(coefficients[k], in.x[k][j], sum[j]);
        }
        store_vec(y + (size_t)i * N, sum);
    }
};

template <int COUNT> static void run(struct device *d, const struct linear_combination_args *a)
{
    uintptr_t addresses = address(a->y);
    for (int k = 0; k < COUNT; k++)
        addresses |= address(a->x[k]);
    map_elements<4>(
        d, "linear_combination", count_of(a->y), alignment_of(addresses) == 16,
        [&](auto n, int64_t at) { return combination_items<decltype(n)::n, COUNT>(a, at); });
}

void cuda_linear_combination(struct device *d, const struct linear_combination_args *a)
{
    static void (*const run_count[])(struct device *, const struct linear_combination_args *) = {
        nullptr, run<1>, run<2>, run<3>, run<4>, run<5>, run<6>, run<7>, run<8>};
    static_assert(sizeof run_count / sizeof *run_count == LINEAR_COMBINATION_MAX + 1, "counts");
    run_count[a->count](d, a);
}
