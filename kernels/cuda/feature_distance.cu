#include "kernels/cuda/internal.cuh"

/* LANES threads share a pixel: as many as its channels fill with 16-byte vectors, up to a warp. a
 * and b are read from memory once, and again from L1 if the norms are needed first. */

constexpr int THREADS = 256;
constexpr int PARTS = 256; /* of an image's sum, at most */

template <int LANES> DEVICE_INLINE float lanes_sum(float x)
{
#pragma unroll
    for (int apart = LANES / 2; apart > 0; apart /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, apart);
    return x;
}

template <typename T> struct feature_pair {
    const T *a, *b;
    const float *weight;
    int64_t pixels; /* of an image */
    int channels;
    float eps;
};

/* Norms of both pixels at element `at`. All lanes of the warp call this; lanes without a pixel have
 * `end` 0. */
template <int VEC, int LANES, typename T>
DEVICE_INLINE void lengths_of(const feature_pair<T> &p, int64_t at, int lane, int end, float *of_a,
                              float *of_b)
{
    float a = 0, b = 0;
    for (int i = lane * VEC; i < end; i += LANES * VEC) {
        const vec<float, VEC> x = to_floats(load_vec<VEC>(p.a + at + i));
        const vec<float, VEC> y = to_floats(load_vec<VEC>(p.b + at + i));
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            a = fmaf(x[j], x[j], a);
            b = fmaf(y[j], y[j], b);
        }
    }
    *of_a = sqrtf(lanes_sum<LANES>(a));
    *of_b = sqrtf(lanes_sum<LANES>(b));
}

/* Block (part, image): partial[image, part] = sum over every parts-th run of pixels. */
template <typename T, int VEC, int LANES>
static __global__ void __launch_bounds__(THREADS, 4) distances(feature_pair<T> p, float *partial)
{
    const int lane = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES;
    const int64_t image = blockIdx.y;
    float sum = 0;
    for (int64_t first = (int64_t)blockIdx.x * (THREADS / LANES); first < p.pixels;
         first += (int64_t)gridDim.x * (THREADS / LANES)) {
        const int64_t pixel = first + group, at = (image * p.pixels + pixel) * p.channels;
        const int end = pixel < p.pixels ? p.channels : 0;
        float of_a, of_b;
        lengths_of<VEC, LANES>(p, at, lane, end, &of_a, &of_b);
        of_a = 1.0f / (of_a + p.eps);
        of_b = 1.0f / (of_b + p.eps);
        for (int i = lane * VEC; i < end; i += LANES * VEC) {
            const vec<float, VEC> x = to_floats(load_vec<VEC>(p.a + at + i));
            const vec<float, VEC> y = to_floats(load_vec<VEC>(p.b + at + i));
#pragma unroll
            for (int j = 0; j < VEC; j++) {
                const float apart = x[j] * of_a - y[j] * of_b;
                sum = fmaf(p.weight[i + j] * apart, apart, sum);
            }
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[image * gridDim.x + blockIdx.x] = sum;
}

static __global__ void means(const float *partial, int parts, int64_t pixels, float *y)
{
    float sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += 32)
        sum += partial[(int64_t)blockIdx.x * parts + i];
    sum = warp_sum(sum);
    if (threadIdx.x == 0)
        y[blockIdx.x] = sum / (float)pixels;
}

/* See kernels/ref/feature_distance_backward.c. */
template <typename T, int VEC, int LANES>
static __global__ void __launch_bounds__(THREADS)
    pull(feature_pair<T> p, const float *dy, T *db, int64_t all)
{
    const int lane = (int)threadIdx.x % LANES;
    const int64_t pixel = (int64_t)blockIdx.x * (THREADS / LANES) + (int)threadIdx.x / LANES;
    const int64_t at = pixel * p.channels;
    const int end = pixel < all ? p.channels : 0;
    const float factor = end ? 2 * dy[pixel / p.pixels] / (float)p.pixels : 0;
    float of_a, length, along = 0;
    lengths_of<VEC, LANES>(p, at, lane, end, &of_a, &length);
    of_a = 1.0f / (of_a + p.eps);
    const float of_b = 1.0f / (length + p.eps);
    for (int i = lane * VEC; i < end; i += LANES * VEC) {
        const vec<float, VEC> x = to_floats(load_vec<VEC>(p.a + at + i));
        const vec<float, VEC> y = to_floats(load_vec<VEC>(p.b + at + i));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            along = fmaf(p.weight[i + j] * (y[j] * of_b - x[j] * of_a), y[j], along);
    }
    along = lanes_sum<LANES>(along);
    const float back = length > 0 ? of_b * along / length : 0;
    const float scale = length > 0 ? factor * of_b : 0;
    for (int i = lane * VEC; i < end; i += LANES * VEC) {
        const vec<float, VEC> x = to_floats(load_vec<VEC>(p.a + at + i));
        const vec<float, VEC> y = to_floats(load_vec<VEC>(p.b + at + i));
        vec<float, VEC> out;
#pragma unroll
        for (int j = 0; j < VEC; j++)
            out[j] = scale * (p.weight[i + j] * (y[j] * of_b - x[j] * of_a) - back * y[j]);
        store_vec(db + at + i, from_floats<T>(out));
    }
}

template <typename T> static feature_pair<T> features_of(const struct feature_distance_args *f)
{
    return {(const T *)f->a->data,           (const T *)f->b->data, (const float *)f->weight->data,
            f->a->shape[1] * f->a->shape[2], (int)f->a->shape[3],   f->eps};
}

template <int VEC_, int LANES_> struct shape {
    static constexpr int VEC = VEC_, LANES = LANES_;
};

/* Calls run with the arrangement of a pixel's threads. */
template <typename T, typename RUN>
static void with_shape(const struct feature_distance_args *f, const void *out, RUN run)
{
    constexpr int N = wide_n<T>;
    const int64_t c = f->a->shape[3];
    const uintptr_t all = (uintptr_t)f->a->data | (uintptr_t)f->b->data | (uintptr_t)out;
    if (c % N || all % 16)
        run(shape<1, 32>());
    else if (c > 16 * N)
        run(shape<N, 32>());
    else if (c > 8 * N)
        run(shape<N, 16>());
    else
        run(shape<N, 8>());
}

template <typename T> static void forward(struct device *d, const struct feature_distance_args *f)
{
    const feature_pair<T> p = features_of<T>(f);
    const int64_t n = f->a->shape[0];
    with_shape<T>(f, NULL, [&](auto s) {
        constexpr int VEC = decltype(s)::VEC, LANES = decltype(s)::LANES;
        /* The number of pixels per group of threads does not depend on the batch, nor does the
         * order of an image's additions. */
        const int64_t most = divide_up(p.pixels, 4 * (THREADS / LANES));
        const unsigned parts = (unsigned)(most < PARTS ? most : PARTS);
        const scratch partial(d, (size_t)n * parts * sizeof(float));
        LAUNCH((distances<T, VEC, LANES>), dim3(parts, (unsigned)n), THREADS, 0, stream_of(d), p,
               partial.as<float>());
        LAUNCH(means, (unsigned)n, 32, 0, stream_of(d), partial.as<const float>(), (int)parts,
               p.pixels, (float *)f->y->data);
    });
}

void cuda_feature_distance(struct device *d, const struct feature_distance_args *a)
{
    if (count_of(a->a))
        WITH_TYPE(a->a->dtype, T, forward<T>(d, a));
}

template <typename T>
static void backward(struct device *d, const struct feature_distance_backward_args *a)
{
    const feature_pair<T> p = features_of<T>(&a->forward);
    const int64_t all = rows_of(a->db);
    with_shape<T>(&a->forward, a->db->data, [&](auto s) {
        constexpr int VEC = decltype(s)::VEC, LANES = decltype(s)::LANES;
        LAUNCH((pull<T, VEC, LANES>), (unsigned)divide_up(all, THREADS / LANES), THREADS, 0,
               stream_of(d), p, (const float *)a->dy->data, (T *)a->db->data, all);
    });
}

void cuda_feature_distance_backward(struct device *d,
                                    const struct feature_distance_backward_args *a)
{
    if (count_of(a->db))
        WITH_TYPE(a->db->dtype, T, backward<T>(d, a));
}
