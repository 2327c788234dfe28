#include "kernels/cuda/internal.cuh"

/* One warp per row: embeddings, one per image. A row is read twice, the second time from L1. */

constexpr int WARPS = 4;

/* sums[0] = x . x, sums[1] = x . dy if dy is not null; the same in all lanes. */
template <typename T, int VEC>
DEVICE_INLINE void row_products(float (&sums)[2], const T *x, const T *dy, int64_t c)
{
    sums[0] = sums[1] = 0;
    for (int64_t i = threadIdx.x * VEC; i < c; i += 32 * VEC) {
        const vec<float, VEC> f = to_floats(load_vec<VEC>(x + i));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            sums[0] = fmaf(f[j], f[j], sums[0]);
        if (dy) {
            const vec<float, VEC> g = to_floats(load_vec<VEC>(dy + i));
#pragma unroll
            for (int j = 0; j < VEC; j++)
                sums[1] = fmaf(f[j], g[j], sums[1]);
        }
    }
    sums[0] = warp_sum(sums[0]);
    sums[1] = warp_sum(sums[1]);
}

template <typename T, int VEC>
static __global__ void normalize(const T *x, T *y, int64_t rows, int64_t c, float eps, float scale)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows)
        return;
    float sums[2];
    row_products<T, VEC>(sums, x + row * c, nullptr, c);
    const float length = fmaxf(sqrtf(sums[0]), eps);
    for (int64_t i = threadIdx.x * VEC; i < c; i += 32 * VEC) {
        vec<float, VEC> f = to_floats(load_vec<VEC>(x + row * c + i));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            f[j] = f[j] * scale / length;
        store_vec(y + row * c + i, from_floats<T>(f));
    }
}

/* With u = x / |x|: dx = (dy - u (u . dy)) * scale / |x|; below eps the norm counts as a constant.
 */
template <typename T, int VEC>
static __global__ void normalize_backward(const T *x, const T *dy, T *dx, int64_t rows, int64_t c,
                                          float eps, float scale)
{
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (row >= rows)
        return;
    float sums[2];
    row_products<T, VEC>(sums, x + row * c, dy + row * c, c);
    const float measured = sqrtf(sums[0]);
    const bool above = measured > eps;
    const float length = above ? measured : eps, along = above ? sums[1] / length / length : 0;
    for (int64_t i = threadIdx.x * VEC; i < c; i += 32 * VEC) {
        const vec<float, VEC> f = to_floats(load_vec<VEC>(x + row * c + i));
        vec<float, VEC> g = to_floats(load_vec<VEC>(dy + row * c + i));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            g[j] = fmaf(-f[j], along, g[j]) * scale / length;
        store_vec(dx + row * c + i, from_floats<T>(g));
    }
}

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename T> static void forward(struct device *d, const struct l2_normalize_args *a)
{
    const int64_t c = a->x->shape[a->x->ndim - 1], rows = rows_of(a->x);
    const unsigned blocks = (unsigned)divide_up(rows, WARPS);
    const T *x = (const T *)a->x->data;
    T *y = (T *)a->y->data;
    if (c % wide_n<T> == 0 && is_aligned(x) && is_aligned(y))
        LAUNCH((normalize<T, wide_n<T>>), blocks, dim3(32, WARPS), 0, stream_of(d), x, y, rows, c,
               a->eps, a->scale);
    else
        LAUNCH((normalize<T, 1>), blocks, dim3(32, WARPS), 0, stream_of(d), x, y, rows, c, a->eps,
               a->scale);
}

void cuda_l2_normalize(struct device *d, const struct l2_normalize_args *a)
{
    if (count_of(a->x))
        WITH_TYPE(a->x->dtype, T, forward<T>(d, a));
}

template <typename T>
static void backward(struct device *d, const struct l2_normalize_backward_args *a)
{
    const struct l2_normalize_args *f = &a->forward;
    const int64_t c = a->dx->shape[a->dx->ndim - 1], rows = rows_of(a->dx);
    const unsigned blocks = (unsigned)divide_up(rows, WARPS);
    const T *x = (const T *)f->x->data, *dy = (const T *)a->dy->data;
    T *dx = (T *)a->dx->data;
    if (c % wide_n<T> == 0 && is_aligned(x) && is_aligned(dy) && is_aligned(dx))
        LAUNCH((normalize_backward<T, wide_n<T>>), blocks, dim3(32, WARPS), 0, stream_of(d), x, dy,
               dx, rows, c, f->eps, f->scale);
    else
        LAUNCH((normalize_backward<T, 1>), blocks, dim3(32, WARPS), 0, stream_of(d), x, dy, dx,
               rows, c, f->eps, f->scale);
}

void cuda_l2_normalize_backward(struct device *d, const struct l2_normalize_backward_args *a)
{
    if (a->dx && count_of(a->dx))
        WITH_TYPE(a->dx->dtype, T, backward<T>(d, a));
}
