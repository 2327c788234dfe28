#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/map.cuh"

/* Images of half and double size. Below, a is the larger image and b the smaller, of h x w pixels;
 * an item is a vector of channels of a pixel of b. */

struct smaller {
    size_t row, line;      /* vectors in a row of b, of a */
    unsigned pixel, pitch; /* vectors in a pixel of b, of a, which may have more channels */
    divisor columns;       /* of a row of b, in vectors */
    divisor channels;

    smaller(int64_t w, int64_t vectors, int64_t of_a)
        : row((size_t)(w * vectors)), line((size_t)(2 * w * of_a)), pixel((unsigned)vectors),
          pitch((unsigned)of_a), columns(w * vectors), channels(vectors)
    {
    }
    smaller(int64_t w, int64_t vectors) : smaller(w, vectors, vectors)
    {
    }
    /* The first of four vectors of a; the others are one pixel and one row of a away. */
    __device__ __forceinline__ size_t corner(unsigned i) const
    {
        unsigned y, column;
        columns.split(i, &y, &column);
        return y * (2 * line) + column + channels.quotient(column) * (2 * pitch - pixel);
    }
};

/* b = scale * sum of 2x2 blocks of a: reads 4, writes 1. */
template <typename T, int N> struct gather_items {
    static constexpr int UNROLL = 1;
    struct loaded {
        vec<T, N> x[4];
    };
    const T *a;
    T *b;
    float scale;
    smaller of;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        const T *above = a + of.corner(i) * N, *below = above + of.line * N;
        const unsigned right = of.pitch * N;
        return {{load_vec<N>(above), load_vec<N>(above + right), load_vec<N>(below),
                 load_vec<N>(below + right)}};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> out;
#pragma unroll
        for (int j = 0; j < N; j++)
            out[j] = ((to_float(in.x[0][j]) + to_float(in.x[1][j])) +
                      (to_float(in.x[2][j]) + to_float(in.x[3][j]))) *
                     scale;
        store_vec(b + (size_t)i * N, from_floats<T, N>(out));
    }
};

/* 2x2 blocks of a = scale * b: reads 1, writes 4. */
template <typename T, int N> struct spread_items {
    static constexpr int UNROLL = 1;
    typedef vec<T, N> loaded;
    T *a;
    const T *b;
    float scale;
    smaller of;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return load_vec<N>(b + (size_t)i * N);
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> scaled;
#pragma unroll
        for (int j = 0; j < N; j++)
            scaled[j] = to_float(in[j]) * scale;
        const vec<T, N> out = from_floats<T, N>(scaled);
        T *above = a + of.corner(i) * N, *below = above + of.line * N;
        const unsigned right = of.pitch * N;
        store_vec(above, out);
        store_vec(above + right, out);
        store_vec(below, out);
        store_vec(below + right, out);
    }
};

/* 2x2 blocks of a += scale * b: reads 5, writes 4. */
template <typename T, int N> struct spread_sum_items {
    static constexpr int UNROLL = 1;
    struct loaded {
        vec<T, N> b, a[4];
    };
    T *a;
    const T *b;
    float scale;
    smaller of;

    /* The i-th vector of the block that belongs to item. */
    __device__ __forceinline__ T *place(unsigned item, int i) const
    {
        return a + of.corner(item) * N + (i % 2) * of.pitch * N + (i / 2) * of.line * N;
    }
    __device__ __forceinline__ loaded load(unsigned item) const
    {
        loaded in;
        in.b = load_vec<N>(b + (size_t)item * N);
#pragma unroll
        for (int i = 0; i < 4; i++)
            in.a[i] = load_vec<N>(place(item, i));
        return in;
    }
    __device__ __forceinline__ void store(unsigned item, const loaded &in) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            vec<float, N> sum;
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[j] = fmaf(to_float(in.b[j]), scale, to_float(in.a[i][j]));
            store_vec(place(item, i), from_floats<T, N>(sum));
        }
    }
};

/* Calls run with lanes<N> for the widest possible vectors of channels. */
template <typename T, typename RUN>
static void with_lanes(const struct tensor *x, const struct tensor *y, RUN run)
{
    const uintptr_t pixels = (uintptr_t)(x->shape[3] | y->shape[3]) * sizeof(T);
    if (alignment_of(address(x), address(y), pixels) == 16)
        run(lanes<wide_n<T>>());
    else
        run(lanes<1>());
}

template <typename T>
static void gather(struct device *d, const char *name, const struct tensor *a,
                   const struct tensor *b, float scale)
{
    const int64_t rows = b->shape[0] * b->shape[1], w = b->shape[2], c = b->shape[3];
    with_lanes<T>(a, b, [&](auto vector) {
        constexpr int N = decltype(vector)::n;
        map_rows(d, name, rows, w * (c / N), [&](int64_t row) {
            return gather_items<T, N>{(const T *)a->data + row * 4 * w * c,
                                      (T *)b->data + row * w * c, scale, smaller(w, c / N)};
        });
    });
}

template <typename T>
static void spread(struct device *d, const char *name, const struct tensor *a,
                   const struct tensor *b, float scale, bool adds = false)
{
    const int64_t rows = b->shape[0] * b->shape[1], w = b->shape[2], c = b->shape[3];
    with_lanes<T>(a, b, [&](auto vector) {
        constexpr int N = decltype(vector)::n;
        T *to = (T *)a->data;
        const T *from = (const T *)b->data;
        const smaller of(w, c / N);
        if (adds)
            map_rows(d, name, rows, w * (c / N), [&](int64_t row) {
                return spread_sum_items<T, N>{to + row * 4 * w * c, from + row * w * c, scale, of};
            });
        else
            map_rows(d, name, rows, w * (c / N), [&](int64_t row) {
                return spread_items<T, N>{to + row * 4 * w * c, from + row * w * c, scale, of};
            });
    });
}

void cuda_avg_pool2x2(struct device *d, const struct avg_pool2x2_args *a)
{
    WITH_TYPE(a->x->dtype, T, gather<T>(d, "avg_pool2x2", a->x, a->y, 0.25f));
}

void cuda_avg_pool2x2_backward(struct device *d, const struct avg_pool2x2_backward_args *a)
{
    WITH_TYPE(a->dx->dtype, T, spread<T>(d, "avg_pool2x2_backward", a->dx, a->dy, 0.25f, a->adds));
}

void cuda_upsample_nearest2x(struct device *d, const struct upsample_nearest2x_args *a)
{
    WITH_TYPE(a->x->dtype, T, spread<T>(d, "upsample_nearest2x", a->y, a->x, 1));
}

void cuda_upsample_nearest2x_backward(struct device *d,
                                      const struct upsample_nearest2x_backward_args *a)
{
    WITH_TYPE(a->dx->dtype, T, gather<T>(d, "upsample_nearest2x_backward", a->dy, a->dx, 1));
}

/* The 2x2 block of a around a pixel of b interpolates 3x3 pixels of b, clamped at the edges: reads
 * 9, of which 8 come from caches, and writes 4. */
template <typename T, int N> struct bilinear_items {
    static constexpr int UNROLL = 1;
    struct loaded {
        vec<T, N> x[3][3];
    };
    T *a;
    const T *b;
    unsigned h, w;
    divisor height;
    smaller of;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned row, column, image, y;
        of.columns.split(i, &row, &column);
        height.split(row, &image, &y);
        const unsigned x = of.channels.quotient(column);
        const T *middle = b + (size_t)i * N;
        const ptrdiff_t up = y > 0 ? -(ptrdiff_t)(of.row * N) : 0;
        const ptrdiff_t down = y + 1 < h ? (ptrdiff_t)(of.row * N) : 0;
        const ptrdiff_t left = x > 0 ? -(ptrdiff_t)(of.pixel * N) : 0;
        const ptrdiff_t right = x + 1 < w ? (ptrdiff_t)(of.pixel * N) : 0;
        return {{{load_vec<N>(middle + up + left), load_vec<N>(middle + up),
                  load_vec<N>(middle + up + right)},
                 {load_vec<N>(middle + left), load_vec<N>(middle), load_vec<N>(middle + right)},
                 {load_vec<N>(middle + down + left), load_vec<N>(middle + down),
                  load_vec<N>(middle + down + right)}}};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> out[2][2];
#pragma unroll
        for (int j = 0; j < N; j++) {
            float left[3], right[3];
#pragma unroll
            for (int y = 0; y < 3; y++) {
                const float middle = 0.75f * to_float(in.x[y][1][j]);
                left[y] = middle + 0.25f * to_float(in.x[y][0][j]);
                right[y] = middle + 0.25f * to_float(in.x[y][2][j]);
            }
            out[0][0][j] = 0.75f * left[1] + 0.25f * left[0];
            out[0][1][j] = 0.75f * right[1] + 0.25f * right[0];
            out[1][0][j] = 0.75f * left[1] + 0.25f * left[2];
            out[1][1][j] = 0.75f * right[1] + 0.25f * right[2];
        }
        T *above = a + of.corner(i) * N, *below = above + of.line * N;
        const unsigned right = of.pitch * N;
        store_vec(above, from_floats<T, N>(out[0][0]));
        store_vec(above + right, from_floats<T, N>(out[0][1]));
        store_vec(below, from_floats<T, N>(out[1][0]));
        store_vec(below + right, from_floats<T, N>(out[1][1]));
    }
};

template <typename T>
static void bilinear(struct device *d, const struct upsample_bilinear2x_args *a)
{
    const int64_t n = a->x->shape[0], h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    const int64_t both = a->y->shape[3];
    with_lanes<T>(a->x, a->y, [&](auto vector) {
        constexpr int N = decltype(vector)::n;
        map_rows(d, "upsample_bilinear2x", n, h * w * (c / N), [&](int64_t image) {
            return bilinear_items<T, N>{(T *)a->y->data + image * 4 * h * w * both,
                                        (const T *)a->x->data + image * h * w * c,
                                        (unsigned)h,
                                        (unsigned)w,
                                        divisor(h),
                                        smaller(w, c / N, both / N)};
        });
    });
}

void cuda_upsample_bilinear2x(struct device *d, const struct upsample_bilinear2x_args *a)
{
    WITH_TYPE(a->x->dtype, T, bilinear<T>(d, a));
    if (a->beside)
        put_columns(d, a->y, a->x->shape[3], a->beside);
}

/* Pixel i of b contributed to pixels 2i - 1 .. 2i + 2 of a; at the edges, because of clamping,
 * twice to the outermost. Finds the k-th of the four and its weight: a pixel outside has weight
 * zero and is replaced by its neighbor, so that loads do not branch. */
DEVICE_INLINE int bilinear_place(unsigned i, unsigned size, int k)
{
    const int place = 2 * (int)i - 1 + k, last = 2 * (int)size - 1;
    return place < 0 ? 0 : place > last ? last : place;
}
DEVICE_INLINE float bilinear_weight(unsigned i, unsigned size, int k)
{
    const bool inside = k < 2 ? i > 0 : i + 1 < size;
    if (k == 0 || k == 3)
        return inside ? 0.25f : 0;
    return inside ? 0.75f : 1;
}

/* An item is a vector of two pixels of b, one above the other: reads 6 rows of 4 pixels of a,
 * instead of 8 for separate pixels, mostly from caches; writes 2. */
template <typename T, int N> struct bilinear_backward_items {
    static constexpr int UNROLL = 1;
    struct loaded {
        vec<float, N> sum[2];
    };
    const T *a;
    T *b;
    unsigned h, w;
    divisor pairs; /* of rows of an image */
    smaller of;

    /* The vector of b that i begins with. */
    __device__ __forceinline__ size_t place(unsigned i, unsigned *image, unsigned *y,
                                            unsigned *column) const
    {
        unsigned pair;
        of.columns.split(i, &pair, column);
        pairs.split(pair, image, y);
        *y *= 2;
        return ((size_t)*image * h + *y) * of.row + *column;
    }
    __device__ __forceinline__ loaded load(unsigned i) const
    {
        unsigned image, y, column;
        place(i, &image, &y, &column);
        const unsigned x = of.channels.quotient(column), channel = column - x * of.pixel;
        const T *from = a + ((size_t)image * (2 * h) * of.line + channel) * N;
        size_t at[4];
        float part[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            at[k] = (size_t)bilinear_place(x, w, k) * of.pitch * N;
            part[k] = bilinear_weight(x, w, k);
        }
        loaded r;
#pragma unroll
        for (int j = 0; j < N; j++)
            r.sum[0][j] = r.sum[1][j] = 0;
#pragma unroll
        for (int row = 0; row < 6; row++) { /* four of y, the last two and two more of y + 1 */
            const T *p = from + (size_t)bilinear_place(y, h, row) * of.line * N;
            vec<T, N> in[4];
#pragma unroll
            for (int k = 0; k < 4; k++)
                in[k] = load_vec<N>(p + at[k]);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float across = 0;
#pragma unroll
                for (int k = 0; k < 4; k++)
                    across += part[k] * to_float(in[k][j]);
                if (row < 4)
                    r.sum[0][j] += bilinear_weight(y, h, row) * across;
                if (row >= 2)
                    r.sum[1][j] += bilinear_weight(y + 1, h, row - 2) * across;
            }
        }
        return r;
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &r) const
    {
        unsigned image, y, column;
        T *p = b + place(i, &image, &y, &column) * N;
        store_vec(p, from_floats<T, N>(r.sum[0]));
        if (y + 1 < h)
            store_vec(p + of.row * N, from_floats<T, N>(r.sum[1]));
    }
};

template <typename T>
static void bilinear_backward(struct device *d, const struct upsample_bilinear2x_backward_args *a)
{
    const int64_t n = a->dx->shape[0], h = a->dx->shape[1], w = a->dx->shape[2];
    const int64_t c = a->dx->shape[3], both = a->dy->shape[3], pairs = divide_up(h, 2);
    with_lanes<T>(a->dx, a->dy, [&](auto vector) {
        constexpr int N = decltype(vector)::n;
        map_rows(d, "upsample_bilinear2x_backward", n, pairs * w * (c / N), [&](int64_t image) {
            return bilinear_backward_items<T, N>{(const T *)a->dy->data + image * 4 * h * w * both,
                                                 (T *)a->dx->data + image * h * w * c,
                                                 (unsigned)h,
                                                 (unsigned)w,
                                                 divisor(pairs),
                                                 smaller(w, c / N, both / N)};
        });
    });
}

void cuda_upsample_bilinear2x_backward(struct device *d,
                                       const struct upsample_bilinear2x_backward_args *a)
{
    if (a->dx)
        WITH_TYPE(a->dy->dtype, T, bilinear_backward<T>(d, a));
    if (a->dbeside)
        take_columns(d, a->dbeside, a->dy, a->dy->shape[3] - a->dbeside->shape[3]);
}
