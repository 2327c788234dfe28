#include "kernels/cuda/map.cuh"

#include <inttypes.h>

/* Between planes [n, c, pixels], F32, and images [n, pixels, c] of type T. Every element is read
 * and written once. */

struct affine {
    float scale[4], shift[4];
};

/* An item is a pixel of C channels: accesses to planes are coalesced, those to the image
 * contiguous. */
template <typename T, int C> struct to_picture_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        float x[C];
    };
    const float *planes;
    T *picture;
    affine by;
    size_t area;
    divisor pixels;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned image, pixel;
        pixels.split(i, &image, &pixel);
        const float *p = planes + image * area * C + pixel;
        loaded r;
#pragma unroll
        for (int k = 0; k < C; k++)
            r.x[k] = p[k * area];
        return r;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        constexpr int N = C == 3 ? 1 : C; /* elements per access */
        T *p = picture + (size_t)i * C;
#pragma unroll
        for (int k = 0; k < C; k += N) {
            vec<float, N> out;
#pragma unroll
            for (int j = 0; j < N; j++)
                out[j] = fmaf(in.x[k + j], by.scale[k + j], by.shift[k + j]);
            store_vec(p + k, from_floats<T, N>(out));
        }
    }
};

template <typename T, int C> struct to_planes_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        T x[C];
    };
    const T *picture;
    float *planes;
    affine by;
    size_t area;
    divisor pixels;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        constexpr int N = C == 3 ? 1 : C;
        const T *p = picture + (size_t)i * C;
        loaded r;
#pragma unroll
        for (int k = 0; k < C; k += N) {
            const vec<T, N> in = load_vec<N>(p + k);
#pragma unroll
            for (int j = 0; j < N; j++)
                r.x[k + j] = in[j];
        }
        return r;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        unsigned image, pixel;
        pixels.split(i, &image, &pixel);
        float *p = planes + image * area * C + pixel;
#pragma unroll
        for (int k = 0; k < C; k++)
            p[k * area] = to_float(in.x[k]) * by.scale[k];
    }
};

/* For more channels, tiles of 32 channels by 64 pixels are transposed in shared memory, so that
 * both sides are accessed along their last dimension. Rows have an odd number of floats, which
 * avoids bank conflicts. */
constexpr int TILE_PIXELS = 64, TILE_CHANNELS = 32, TILE_WARPS = 8;

template <typename T>
static __global__ void __launch_bounds__(32 * TILE_WARPS)
    transpose_to_picture(const float *planes, T *picture, unsigned area, unsigned channels)
{
    __shared__ float tile[TILE_CHANNELS][TILE_PIXELS + 1];
    const unsigned pixel = blockIdx.x * TILE_PIXELS, channel = blockIdx.y * TILE_CHANNELS;
    const size_t image = (size_t)blockIdx.z * area * channels;
    for (unsigned k = threadIdx.y; k < TILE_CHANNELS; k += TILE_WARPS)
        for (unsigned p = threadIdx.x; p < TILE_PIXELS; p += 32)
            if (channel + k < channels && pixel + p < area)
                tile[k][p] = planes[image + (size_t)(channel + k) * area + pixel + p];
    __syncthreads();
    const unsigned k = threadIdx.x;
    for (unsigned p = threadIdx.y; p < TILE_PIXELS; p += TILE_WARPS)
        if (channel + k < channels && pixel + p < area)
            picture[image + (size_t)(pixel + p) * channels + channel + k] =
                from_float<T>(tile[k][p]);
}

template <typename T>
static __global__ void __launch_bounds__(32 * TILE_WARPS)
    transpose_to_planes(const T *picture, float *planes, unsigned area, unsigned channels)
{
    __shared__ float tile[TILE_CHANNELS][TILE_PIXELS + 1];
    const unsigned pixel = blockIdx.x * TILE_PIXELS, channel = blockIdx.y * TILE_CHANNELS;
    const size_t image = (size_t)blockIdx.z * area * channels;
    const unsigned column = threadIdx.x;
    for (unsigned p = threadIdx.y; p < TILE_PIXELS; p += TILE_WARPS)
        if (channel + column < channels && pixel + p < area)
            tile[column][p] =
                to_float(picture[image + (size_t)(pixel + p) * channels + channel + column]);
    __syncthreads();
    for (unsigned k = threadIdx.y; k < TILE_CHANNELS; k += TILE_WARPS)
        for (unsigned p = threadIdx.x; p < TILE_PIXELS; p += 32)
            if (channel + k < channels && pixel + p < area)
                planes[image + (size_t)(channel + k) * area + pixel + p] = tile[k][p];
}

struct picture_sizes {
    int64_t n, c, area;
};

static struct picture_sizes sizes_of(const struct tensor *planes)
{
    return {planes->shape[0], planes->shape[1], planes->shape[2] * planes->shape[3]};
}

static affine affine_of(int64_t c, const float *scale, const float *shift)
{
    affine r;
    for (int k = 0; k < 4; k++) {
        r.scale[k] = scale && k < c ? scale[k] : 1;
        r.shift[k] = shift && k < c ? shift[k] : 0;
    }
    return r;
}

/* One launch per 65535 images, the limit of a grid's z. */
template <typename FROM, typename TO, typename KERNEL>
static void transpose(struct device *d, const char *name, KERNEL kernel,
                      const struct picture_sizes *s, const FROM *from, TO *to)
{
    for (int64_t i = 0; i < s->n; i += 65535) {
        const int64_t images = s->n - i < 65535 ? s->n - i : 65535, at = i * s->c * s->area;
        const dim3 grid((unsigned)divide_up(s->area, TILE_PIXELS),
                        (unsigned)divide_up(s->c, TILE_CHANNELS), (unsigned)images);
        launch_kernel(name, kernel, grid, dim3(32, TILE_WARPS), 0, stream_of(d), from + at, to + at,
                      (unsigned)s->area, (unsigned)s->c);
    }
}

/* Direct if a pixel is one access and the addresses are aligned. */
template <typename T, int C> static bool direct(const struct picture_sizes *s, const void *picture)
{
    const unsigned bytes = C == 3 ? sizeof(T) : C * sizeof(T);
    return s->c == C && (uintptr_t)picture % bytes == 0;
}

template <typename T, int C>
static void pixels_to_picture(struct device *d, const struct picture_sizes *s, const float *planes,
                              T *picture, const affine &by)
{
    map_rows(
        d, "to_nhwc", s->n, s->area,
        [&](int64_t image) {
            const int64_t at = image * s->area * C;
            return to_picture_items<T, C>{planes + at, picture + at, by, (size_t)s->area,
                                          divisor(s->area)};
        });
}

template <typename T, int C>
static void pixels_to_planes(struct device *d, const struct picture_sizes *s, const T *picture,
                             float *planes, const affine &by)
{
    map_rows(
        d, "to_nchw", s->n, s->area,
        [&](int64_t image) {
            const int64_t at = image * s->area * C;
            return to_planes_items<T, C>{picture + at, planes + at, by, (size_t)s->area,
                                         divisor(s->area)};
        });
}

template <typename T>
static void to_picture(struct device *d, const struct tensor *planes, const struct tensor *picture,
                       const float *scale, const float *shift)
{
    const struct picture_sizes s = sizes_of(planes);
    const float *from = (const float *)planes->data;
    T *to = (T *)picture->data;
    const affine by = affine_of(s.c, scale, shift);
    if (s.area == 0)
        return;
    if (direct<T, 1>(&s, to))
        pixels_to_picture<T, 1>(d, &s, from, to, by);
    else if (direct<T, 2>(&s, to))
        pixels_to_picture<T, 2>(d, &s, from, to, by);
    else if (direct<T, 3>(&s, to))
        pixels_to_picture<T, 3>(d, &s, from, to, by);
    else if (direct<T, 4>(&s, to))
        pixels_to_picture<T, 4>(d, &s, from, to, by);
    else if (scale)
        plugin_host->die("CUDA backend: no kernel for scales of %" PRId64 " channels", s.c);
    else
        transpose(d, "to_nhwc", transpose_to_picture<T>, &s, from, to);
}

template <typename T>
static void to_planes(struct device *d, const struct tensor *picture, const struct tensor *planes,
                      const float *scale)
{
    const struct picture_sizes s = sizes_of(planes);
    const T *from = (const T *)picture->data;
    float *to = (float *)planes->data;
    const affine by = affine_of(s.c, scale, nullptr);
    if (s.area == 0)
        return;
    if (direct<T, 1>(&s, from))
        pixels_to_planes<T, 1>(d, &s, from, to, by);
    else if (direct<T, 2>(&s, from))
        pixels_to_planes<T, 2>(d, &s, from, to, by);
    else if (direct<T, 3>(&s, from))
        pixels_to_planes<T, 3>(d, &s, from, to, by);
    else if (direct<T, 4>(&s, from))
        pixels_to_planes<T, 4>(d, &s, from, to, by);
    else if (scale)
        plugin_host->die("CUDA backend: no kernel for scales of %" PRId64 " channels", s.c);
    else
        transpose(d, "to_nchw", transpose_to_planes<T>, &s, from, to);
}

void cuda_to_nhwc(struct device *d, const struct to_nhwc_args *a)
{
    WITH_TYPE(a->y->dtype, T, to_picture<T>(d, a->x, a->y, a->scale, a->shift));
}

void cuda_to_nhwc_backward(struct device *d, const struct to_nhwc_backward_args *a)
{
    WITH_TYPE(a->dy->dtype, T, to_planes<T>(d, a->dy, a->dx, a->scale));
}

void cuda_to_nchw(struct device *d, const struct to_nchw_args *a)
{
    WITH_TYPE(a->x->dtype, T, to_planes<T>(d, a->x, a->y, nullptr));
}

void cuda_to_nchw_backward(struct device *d, const struct to_nchw_backward_args *a)
{
    WITH_TYPE(a->dx->dtype, T, to_picture<T>(d, a->dy, a->dx, nullptr, nullptr));
}
