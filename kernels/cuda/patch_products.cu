#include "kernels/cuda/patch_products.h"

#include "kernels/cuda/map.cuh"
#include "kernels/patches.h"

bool patch_products_suit(const struct convolution *c)
{
    return c->type != DTYPE_F32 && c->stride == 1 && c->ci % 8 == 0 &&
           patches_may_be_gathered(c->n * c->oh * c->ow, c->oh * c->ow, c->kh * c->kw, c->ci);
}

void product_of_patches(struct device *d, const struct convolution *c, const void *matrix,
                        const void *weight, const struct tensor *bias, const void *residual,
                        void *y)
{
    struct matrix_product p = {};
    p.rows = c->n * c->oh * c->ow;
    p.columns = c->co;
    p.inner = c->kh * c->kw * c->ci;
    p.type = p.c_type = c->type;
    p.a = matrix;
    p.b = weight;
    p.c = y;
    p.ld_a = p.ld_b = p.inner;
    p.ld_c = p.columns;
    p.transpose_b = true;
    p.bias = bias;
    p.addend = residual;
    p.beta = residual ? 1 : 0;
    matrix_product(d, &p);
}

/* Vectors of `n` channels of images [h, w] and of their patches [oh, ow, kh, kw]. */
struct places {
    divisor vectors, taps, window, h, w, oh, ow;
    int pad;

    places(const struct convolution *c, int n)
        : vectors(c->ci / n), taps(c->kh * c->kw), window(c->kw), h(c->h), w(c->w), oh(c->oh),
          ow(c->ow), pad(c->pad_begin)
    {
    }
    __device__ __forceinline__ static bool inside(int i, const divisor &size)
    {
        return i >= 0 && i < (int)size.by;
    }
};

/* An item is a vector of a patch; those outside of the image are zero. */
template <typename T, int N> struct patch_items {
    static constexpr int UNROLL = 2;
    typedef vec<T, N> loaded;
    const T *x;
    T *patches;
    places at;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned place, channel, pixel, tap, line, image, oy, ox, ky, kx;
        at.vectors.split(i, &place, &channel);
        at.taps.split(place, &pixel, &tap);
        at.ow.split(pixel, &line, &ox);
        at.oh.split(line, &image, &oy);
        at.window.split(tap, &ky, &kx);
        const int y = (int)(oy + ky) - at.pad, column = (int)(ox + kx) - at.pad;
        loaded r = {};
        if (at.inside(y, at.h) && at.inside(column, at.w)) {
            const size_t from = (size_t)(image * at.h.by + y) * at.w.by + column;
            r = load_vec<N>(x + (from * at.vectors.by + channel) * N);
        }
        return r;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        store_vec(patches + (size_t)i * N, in);
    }
};

/* An item is a vector of dx: the sum of those of the patches that contain it, in F32. */
template <typename T, int N> struct unpatch_items {
    static constexpr int UNROLL = 1;
    typedef vec<float, N> loaded;
    const T *patches;
    T *dx;
    places at;
    bool adds;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned pixel, channel, line, image, y, column;
        at.vectors.split(i, &pixel, &channel);
        at.w.split(pixel, &line, &column);
        at.h.split(line, &image, &y);
        loaded sum = {};
        for (unsigned tap = 0; tap < at.taps.by; tap++) {
            unsigned ky, kx;
            at.window.split(tap, &ky, &kx);
            const int oy = (int)(y - ky) + at.pad, ox = (int)(column - kx) + at.pad;
            if (!at.inside(oy, at.oh) || !at.inside(ox, at.ow))
                continue;
            const size_t of_y = (size_t)(image * at.oh.by + oy) * at.ow.by + ox;
            const size_t place = of_y * at.taps.by + tap;
            const vec<T, N> part = load_vec<N>(patches + (place * at.vectors.by + channel) * N);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum[k] += to_float(part[k]);
        }
        if (adds) {
            const vec<T, N> before = load_vec<N>(dx + (size_t)i * N);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum[k] += to_float(before[k]);
        }
        return sum;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        store_vec(dx + (size_t)i * N, from_floats<T, N>(in));
    }
};

static size_t patch_bytes(const struct convolution *c)
{
    return (size_t)(c->n * c->oh * c->ow * c->kh * c->kw * c->ci) * size_of(c->type);
}

template <typename T, int N>
static void gather(struct device *d, const struct convolution *c, const void *x, void *patches)
{
    const int64_t image = c->h * c->w * c->ci, of_image = c->oh * c->ow * c->kh * c->kw * c->ci;
    map_rows(d, "gather_patches", c->n, of_image / N, [&](int64_t n) {
        return patch_items<T, N>{(const T *)x + n * image, (T *)patches + n * of_image,
                                 places(c, N)};
    });
}

template <typename T, int N>
static void scatter(struct device *d, const struct convolution *c, const void *patches, void *dx,
                    bool adds)
{
    const int64_t image = c->h * c->w * c->ci, of_image = c->oh * c->ow * c->kh * c->kw * c->ci;
    map_rows(d, "scatter_patches", c->n, image / N, [&](int64_t n) {
        return unpatch_items<T, N>{(const T *)patches + n * of_image, (T *)dx + n * image,
                                   places(c, N), adds};
    });
}

/* Calls a function with vectors of the widest type that the address allows. */
#define WITH_LANES(function, address, ...)                                                         \
    WITH_TYPE(c->type, T,                                                                          \
              ((uintptr_t)(address) % 16 == 0 ? function<T, wide_n<T>>(d, c, __VA_ARGS__)          \
                                              : function<T, 1>(d, c, __VA_ARGS__)))

void patch_product_forward(struct device *d, const struct convolution *c, const void *x,
                           const void *weight, const struct tensor *bias, const void *residual,
                           void *y)
{
    scratch patches(d, patch_bytes(c));
    WITH_LANES(gather, x, x, patches.data);
    product_of_patches(d, c, patches.data, weight, bias, residual, y);
}

void patch_product_backward_data(struct device *d, const struct convolution *c, const void *dy,
                                 const void *weight, void *dx, bool adds)
{
    scratch patches(d, patch_bytes(c));
    struct matrix_product p = {};
    p.rows = c->n * c->oh * c->ow;
    p.columns = c->kh * c->kw * c->ci;
    p.inner = c->co;
    p.type = p.c_type = c->type;
    p.a = dy;
    p.b = weight;
    p.c = patches.data;
    p.ld_a = p.inner;
    p.ld_b = p.ld_c = p.columns;
    matrix_product(d, &p);
    WITH_LANES(scatter, dx, patches.data, dx, adds);
}
