#include "kernels/cuda/map.cuh"

/* x * w, in turns, is exact in double; the cosine needs only its fraction, so that angles of
 * thousands keep all digits. */
template <typename T> struct fourier_items {
    static constexpr int UNROLL = 1;
    typedef float loaded;
    const float *x, *weight;
    T *y;
    divisor m;

    __device__ __forceinline__ float load(unsigned i) const
    {
        unsigned row, j;
        m.split(i, &row, &j);
        const double turns = (double)x[row] * (double)weight[j];
        return (float)(2 * (turns - rint(turns)));
    }
    __device__ __forceinline__ void store(unsigned i, const float &half_turns) const
    {
        const unsigned row = m.quotient(i);
        T *p = y + (i + (size_t)row * m.by);
        float sine, cosine;
        sincospif(half_turns, &sine, &cosine);
        p[0] = from_float<T>(cosine);
        p[m.by] = from_float<T>(sine);
    }
};

template <typename T> static void run(struct device *d, const struct fourier_features_args *a)
{
    const int64_t m = a->weight->shape[0];
    map_rows(d, "fourier_features", count_of(a->x), m, [&](int64_t row) {
        return fourier_items<T>{(const float *)a->x->data + row, (const float *)a->weight->data,
                                (T *)a->y->data + row * 2 * m, divisor(m)};
    });
}

void cuda_fourier_features(struct device *d, const struct fourier_features_args *a)
{
    WITH_TYPE(a->y->dtype, T, run<T>(d, a));
}
