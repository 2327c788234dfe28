#ifndef CCLD_KERNELS_CUDA_GROUP_NORM_CUH
#define CCLD_KERNELS_CUDA_GROUP_NORM_CUH

#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/internal.cuh"

/* What the forward and backward passes of group_norm share.
 *
 * A block of threads works on a slab: adjacent channels, as vectors of VEC ("columns"), of a range
 * of pixels. A thread owns one column and every lanes-th pixel, so that values per channel stay in
 * its registers and adjacent threads read adjacent bytes. A slab is one or more whole groups, or
 * one of the `segments` of a group that is too wide.
 *
 * Statistics are those of x - shift, where shift is the group's first element, so that a
 * near-constant group keeps all digits. They are merged as in Chan, Golub, LeVeque, "Updating
 * formulae and a pairwise algorithm for computing sample variances" (1979), which avoids
 * cancellation even if the shift is an outlier. The mean is kept as the sum of two floats,
 * high + low.
 *
 * How an image is divided depends only on its own shape and type. */

constexpr int GROUP_NORM_THREADS = 256;       /* of a block, at most */
constexpr int GROUP_NORM_WHOLE_THREADS = 512; /* if one block has all of its groups */
constexpr int GROUP_NORM_SLAB_GROUPS = 128;   /* at most */
constexpr int GROUP_NORM_PARTS = 128;         /* of the statistics, at most */
constexpr int64_t GROUP_NORM_IMAGES = 65535;  /* of one launch, at most */

struct group_norm_layout {
    int64_t pixels;
    int channels, groups, group_channels;
    int slabs, slab_groups, segments; /* slab_groups is 1 if there are several segments */
    int columns, lanes;
    int parts;
    int64_t part_pixels;
    float eps;
};

struct moments {
    float n, mean, squares; /* squares: sum of squared deviations from the mean */
};

/* A launch covers images image0 .., as many as its grid's z. */
template <typename T> struct group_norm_pointers {
    const T *x;
    const float *gamma, *beta;
    const T *modulation; /* its first column for this op, of image 0 */
    int64_t ld_modulation;
    const struct moments *partial; /* [image, group, segment, part] */
    float *statistics;             /* [image, group, 3], or null: struct group_norm_args */
    bool adds;                     /* a residual, forward only, which lies */
    uintptr_t residual;            /* this many bytes after y, modulo 2^64: it takes no registers */
    int64_t image0;
    enum activation_kind act;
    bool aligned; /* all of these, and the images' first elements, are aligned to 16 bytes */
};

/* The position of a thread. */
struct group_norm_place {
    int64_t image;
    int range; /* of pixels */
    int slab, first_group;
    int first, end; /* channels of the slab */
    int column, lane, channel;
    bool idle;
};

/* A launch that rereads what the previous one has read goes backwards: the latest data are still in
 * L2. */
template <int VEC>
DEVICE_INLINE group_norm_place group_norm_here(const group_norm_layout &l, int64_t image0,
                                               bool backwards)
{
    group_norm_place p;
    p.range = (int)(backwards ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    p.slab = (int)(backwards ? gridDim.y - 1 - blockIdx.y : blockIdx.y);
    p.image = image0 + (backwards ? gridDim.z - 1 - blockIdx.z : blockIdx.z);
    p.first_group = p.slab / l.segments * l.slab_groups;
    p.first = p.first_group * l.group_channels + p.slab % l.segments * l.columns * VEC;
    p.end = min(p.first + l.columns * VEC, (p.first_group + l.slab_groups) * l.group_channels);
    p.column = (int)threadIdx.x % l.columns;
    p.lane = (int)threadIdx.x / l.columns;
    p.channel = p.first + p.column * VEC;
    p.idle = p.lane >= l.lanes || p.channel >= p.end;
    return p;
}

template <int VEC, typename T> DEVICE_INLINE vec<T, VEC> load_any(const T *p, bool aligned)
{
    if (aligned)
        return load_vec<VEC>(p);
    vec<T, VEC> r;
#pragma unroll
    for (int i = 0; i < VEC; i++)
        r[i] = p[i];
    return r;
}

template <int VEC, typename T>
DEVICE_INLINE void store_any(T *p, const vec<T, VEC> &x, bool aligned)
{
    if (aligned) {
        store_vec(p, x);
        return;
    }
#pragma unroll
    for (int i = 0; i < VEC; i++)
        p[i] = x[i];
}

/* Iterates over a thread's column of a range of pixels, U at once. Idle threads have no pixels. */
template <typename T> struct pixel_walk {
    int64_t offset, end, step; /* elements from the thread's first channel of pixel 0 */
    bool aligned;

    __device__ __forceinline__ pixel_walk(const group_norm_layout &l, const group_norm_place &here,
                                          int64_t range_pixels, bool aligned_)
    {
        const int64_t first = here.range * range_pixels;
        const int64_t last = first + range_pixels < l.pixels ? first + range_pixels : l.pixels;
        offset = (first + here.lane) * l.channels;
        end = here.idle ? 0 : last * l.channels;
        step = (int64_t)l.lanes * l.channels;
        aligned = aligned_;
    }
    template <int VEC, int U>
    __device__ __forceinline__ void load(vec<T, VEC> (&to)[U], const T *from) const
    {
#pragma unroll
        for (int u = 0; u < U; u++)
            if (offset + u * step < end)
                to[u] = load_any<VEC>(from + offset + u * step, aligned);
    }
};

/* ---- moments */

DEVICE_INLINE moments merged(const moments &a, const moments &b)
{
    moments r;
    r.n = a.n + b.n;
    const float part = r.n > 0 ? b.n / r.n : 0, apart = b.mean - a.mean;
    r.mean = fmaf(apart, part, a.mean);
    r.squares = a.squares + b.squares + apart * apart * a.n * part;
    return r;
}

/* Merges all lanes into lane 0. */
DEVICE_INLINE moments warp_merged(moments m)
{
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        moments other;
        other.n = __shfl_down_sync(0xffffffffu, m.n, apart);
        other.mean = __shfl_down_sync(0xffffffffu, m.mean, apart);
        other.squares = __shfl_down_sync(0xffffffffu, m.squares, apart);
        m = merged(m, other);
    }
    return m;
}

/* Moments of the PER equal parts of a thread's vectors: 1 if a vector is within a group, else VEC.
 */
template <int VEC, int PER> struct running_moments {
    float n = 0, mean[PER] = {}, squares[PER] = {};

    template <int U> __device__ __forceinline__ void add(const float (&f)[U][VEC])
    {
        constexpr int span = VEC / PER;
        const float now = n + U * span, part = U * span / now;
#pragma unroll
        for (int i = 0; i < PER; i++) {
            float sum = 0, deviations = 0;
#pragma unroll
            for (int u = 0; u < U; u++)
#pragma unroll
                for (int j = i * span; j < (i + 1) * span; j++)
                    sum += f[u][j];
            const float center = sum * (1.0f / (U * span));
#pragma unroll
            for (int u = 0; u < U; u++)
#pragma unroll
                for (int j = i * span; j < (i + 1) * span; j++)
                    deviations = fmaf(f[u][j] - center, f[u][j] - center, deviations);
            const float apart = center - mean[i];
            mean[i] = fmaf(apart, part, mean[i]);
            squares[i] += deviations + apart * apart * n * part;
        }
        n = now;
    }
};

/* The shift of the i-th part of a thread's vectors. */
template <int VEC, int PER, typename T>
DEVICE_INLINE void load_shifts(float (&shift)[PER], const T *image, const group_norm_layout &l,
                               int channel)
{
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const int c = channel + i * (VEC / PER);
        shift[i] = to_float(image[c - c % l.group_channels]);
    }
}

/* Pixels begin + lane, and every lanes-th from there to end. load(pixel) gives a vector. */
template <int VEC, int PER, int U, typename LOAD>
DEVICE_INLINE running_moments<VEC, PER> moments_of_pixels(int64_t first, int64_t end, int64_t step,
                                                          const float (&shift)[PER], LOAD load)
{
    running_moments<VEC, PER> r;
    int64_t p = first;
    for (; p + (U - 1) * step < end; p += U * step) {
        decltype(load(p)) raw[U];
        float f[U][VEC];
#pragma unroll
        for (int u = 0; u < U; u++)
            raw[u] = load(p + u * step);
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int j = 0; j < VEC; j++)
                f[u][j] = to_float(raw[u][j]) - shift[j / (VEC / PER)];
        r.add(f);
    }
    for (; p < end; p += step) {
        const auto raw = load(p);
        float f[1][VEC];
#pragma unroll
        for (int j = 0; j < VEC; j++)
            f[0][j] = to_float(raw[j]) - shift[j / (VEC / PER)];
        r.add(f);
    }
    return r;
}

/* Merges the threads' moments into those of the slab's groups: one thread per group calls
 * give(group, moments), with groups counted from the slab's first. All threads must call this.
 * pixels: of the block. shared: 2 * columns * lanes * PER floats; free again after the next
 * barrier. */
template <int VEC, int PER, typename GIVE>
DEVICE_INLINE void merge_threads(const running_moments<VEC, PER> &mine, const group_norm_layout &l,
                                 const group_norm_place &here, int64_t pixels, float *shared,
                                 GIVE give)
{
    constexpr int span = VEC / PER;
    const int pitch = l.columns * PER;
    float *means = shared, *squares = shared + l.lanes * pitch;
    if (!here.idle) {
#pragma unroll
        for (int i = 0; i < PER; i++) {
            means[here.lane * pitch + here.column * PER + i] = mine.mean[i];
            squares[here.lane * pitch + here.column * PER + i] = mine.squares[i];
        }
    }
    __syncthreads();
    const int units = min(l.group_channels, here.end - here.first) / span;
    for (int g = (int)threadIdx.x / 32; g < l.slab_groups; g += (int)blockDim.x / 32) {
        moments m = {0, 0, 0};
        for (int i = (int)threadIdx.x % 32; i < units * l.lanes; i += 32) {
            const int lane = i / units, at = lane * pitch + g * units + i % units;
            const int64_t seen = lane < pixels ? (pixels - lane - 1) / l.lanes + 1 : 0;
            m = merged(m, {(float)(seen * span), means[at], squares[at]});
        }
        m = warp_merged(m);
        if (threadIdx.x % 32 == 0)
            give(g, m);
    }
}

/* The statistics that normalize the groups of a slab. */
struct slab_statistics {
    float high[GROUP_NORM_SLAB_GROUPS], low[GROUP_NORM_SLAB_GROUPS],
        inverse[GROUP_NORM_SLAB_GROUPS];
};

DEVICE_INLINE void set_statistics(slab_statistics &s, int group, const moments &m, float shift,
                                  float eps)
{
    const float high = shift + m.mean, of_mean = high - shift;
    s.high[group] = high;
    s.low[group] = (shift - (high - of_mean)) + (m.mean - of_mean); /* the rounding error */
    s.inverse[group] = 1.0f / sqrtf(m.squares / m.n + eps);
}

/* The slab's statistics as the forward pass leaves them for the backward pass. */
DEVICE_INLINE void keep_statistics(const slab_statistics &s, float *all, const group_norm_layout &l,
                                   const group_norm_place &here)
{
    float *mine = all + (here.image * l.groups + here.first_group) * 3;
    for (int g = (int)threadIdx.x; g < l.slab_groups; g += (int)blockDim.x) {
        mine[3 * g] = s.high[g];
        mine[3 * g + 1] = s.low[g];
        mine[3 * g + 2] = s.inverse[g];
    }
}
/* Reads them and synchronizes. */
DEVICE_INLINE void kept_statistics(slab_statistics &s, const float *all, const group_norm_layout &l,
                                   const group_norm_place &here)
{
    const float *mine = all + (here.image * l.groups + here.first_group) * 3;
    for (int g = (int)threadIdx.x; g < l.slab_groups; g += (int)blockDim.x) {
        s.high[g] = mine[3 * g];
        s.low[g] = mine[3 * g + 1];
        s.inverse[g] = mine[3 * g + 2];
    }
    __syncthreads();
}

/* Merges the parts of the slab's groups and synchronizes. image: pixel 0. */
template <typename T>
DEVICE_INLINE void merge_parts(slab_statistics &s, const moments *partial, const T *image,
                               const group_norm_layout &l, const group_norm_place &here)
{
    const int parts = l.segments * l.parts;
    for (int g = (int)threadIdx.x / 32; g < l.slab_groups; g += (int)blockDim.x / 32) {
        const int group = here.first_group + g;
        const moments *of_group = partial + (here.image * l.groups + group) * parts;
        moments m = {0, 0, 0};
        for (int i = (int)threadIdx.x % 32; i < parts; i += 32)
            m = merged(m, of_group[i]);
        m = warp_merged(m);
        if (threadIdx.x % 32 == 0)
            set_statistics(s, g, m, to_float(image[group * l.group_channels]), l.eps);
    }
    __syncthreads();
}

/* The statistics of the slab's groups, wherever they are; synchronizes. */
template <typename T>
DEVICE_INLINE void find_statistics(slab_statistics &s, const group_norm_pointers<T> &a,
                                   const group_norm_layout &l, const group_norm_place &here)
{
    if (a.statistics)
        kept_statistics(s, a.statistics, l, here);
    else
        merge_parts(s, a.partial, a.x + here.image * l.pixels * l.channels, l, here);
}

/* ---- a thread's channels: z = normal * scale + offset, normal = (x - high - low) * inverse */

template <int VEC, int PER> struct channel_terms {
    float high[PER], low[PER], inverse[PER];
    float scale[VEC], offset[VEC];
};

template <int VEC, int PER, typename T>
DEVICE_INLINE channel_terms<VEC, PER>
terms_of(const slab_statistics &s, const group_norm_pointers<T> &a, const group_norm_layout &l,
         const group_norm_place &here)
{
    channel_terms<VEC, PER> t;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const int g = (here.channel + i * (VEC / PER)) / l.group_channels - here.first_group;
        t.high[i] = s.high[g];
        t.low[i] = s.low[g];
        t.inverse[i] = s.inverse[g];
    }
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        t.scale[j] = 1;
        t.offset[j] = 0;
    }
    if (a.gamma) {
        const vec<float, VEC> gamma = load_any<VEC>(a.gamma + here.channel, a.aligned);
        const vec<float, VEC> beta = load_any<VEC>(a.beta + here.channel, a.aligned);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            t.scale[j] = gamma[j];
            t.offset[j] = beta[j];
        }
    }
    if (a.modulation) {
        const T *m = a.modulation + here.image * a.ld_modulation + here.channel;
        const vec<T, VEC> scale = load_any<VEC>(m, a.aligned);
        const vec<T, VEC> shift = load_any<VEC>(m + l.channels, a.aligned);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            t.scale[j] *= 1 + to_float(scale[j]);
            t.offset[j] = fmaf(t.offset[j], 1 + to_float(scale[j]), to_float(shift[j]));
        }
    }
    return t;
}

/* z = (x - high) * slope + offset. */
template <int VEC, int PER>
DEVICE_INLINE void slopes_of(const channel_terms<VEC, PER> &t, float (&slope)[VEC],
                             float (&offset)[VEC])
{
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        slope[j] = t.scale[j] * t.inverse[j / (VEC / PER)];
        offset[j] = fmaf(-t.low[j / (VEC / PER)], slope[j], t.offset[j]);
    }
}

/* Loads a slab of an image into shared memory, each thread's vectors at [i * blockDim.x +
 * threadIdx.x]. Only the thread itself reads them, so no barrier is needed. load_end() must follow.
 */
template <typename T, int VEC>
DEVICE_INLINE void slab_load(vec<T, VEC> *to, const T *from, const group_norm_layout &l,
                             const group_norm_place &here, bool aligned)
{
    if (here.idle)
        return;
    to += threadIdx.x;
    for (int64_t p = here.lane; p < l.pixels; p += l.lanes, to += blockDim.x) {
        const T *vector = from + p * l.channels + here.channel;
        if (VEC * sizeof(T) == 16 && aligned)
            cp_async_16(to, vector);
        else
            *to = load_any<VEC>(vector, false);
    }
}
DEVICE_INLINE void slab_load_end()
{
    cp_async_commit();
    cp_async_wait<0>();
}

/* ---- host functions */

/* elements: per vector, wide_n<T>, reduced to 1 if the channels do not divide into such vectors.
 * For groups that fit in one block see group_norm_whole(). */
group_norm_layout group_norm_layout_of(const struct group_norm_args *a, int *elements);
/* Whether one block can hold `tensors` tensors of x's type for its groups in shared memory. If so,
 * sets l's lanes accordingly. */
bool group_norm_whole(group_norm_layout *l, int elements, size_t element_bytes, int tensors);

static inline size_t group_norm_partial_bytes(const group_norm_layout &l, int64_t images)
{
    return (size_t)(images * l.groups * l.segments * l.parts) * sizeof(struct moments);
}
static inline unsigned group_norm_threads(const group_norm_layout &l)
{
    return (unsigned)divide_up(l.columns * l.lanes, 32) * 32;
}
/* Shared memory of a block that holds its slab of one tensor. */
static inline size_t group_norm_slab_bytes(const group_norm_layout &l, int elements,
                                           size_t element_bytes)
{
    return (size_t)divide_up(l.pixels, l.lanes) * group_norm_threads(l) * (size_t)elements *
           element_bytes;
}
/* Dynamic shared memory of merge_threads. */
static inline size_t group_norm_merge_bytes(const group_norm_layout &l, int per)
{
    return (size_t)(2 * l.columns * l.lanes * per) * sizeof(float);
}
/* Runs a statement for a layout with VEC and PER as constants. */
#define WITH_LAYOUT(l_, elements_, T_, VEC, PER, ...)                                              \
    do {                                                                                           \
        if ((elements_) == 1) {                                                                    \
            constexpr int VEC = 1, PER = 1;                                                        \
            __VA_ARGS__;                                                                           \
        } else if ((l_).group_channels % (elements_) == 0) {                                       \
            constexpr int VEC = wide_n<T_>, PER = 1;                                               \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            constexpr int VEC = wide_n<T_>, PER = VEC;                                             \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

static inline unsigned group_norm_images(int64_t image0, int64_t images)
{
    return (unsigned)(images - image0 < GROUP_NORM_IMAGES ? images - image0 : GROUP_NORM_IMAGES);
}
/* Pixels per block, where results do not depend on it: enough blocks for the whole GPU, but not so
 * small that reading the statistics dominates. */
int64_t group_norm_tile_pixels(const struct device *d, const group_norm_layout &l, int elements,
                               size_t element_bytes, int64_t images);
/* Computes p.partial of `images` images. */
template <typename T>
void group_norm_partial_moments(struct device *d, const group_norm_layout &l, int elements,
                                const group_norm_pointers<T> &p, int64_t images);

static inline bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename T>
static inline group_norm_pointers<T> group_norm_pointers_of(const struct group_norm_args *a)
{
    group_norm_pointers<T> p = {};
    p.x = (const T *)a->x->data;
    p.act = a->act;
    p.aligned = is_aligned(p.x);
    p.statistics = a->statistics ? (float *)a->statistics->data : nullptr;
    if (a->residual) {
        p.adds = true;
        p.residual = (uintptr_t)a->residual->data - (uintptr_t)a->y->data;
        p.aligned = p.aligned && is_aligned(a->residual->data);
    }
    if (a->gamma) {
        p.gamma = (const float *)a->gamma->data;
        p.beta = (const float *)a->beta->data;
        p.aligned = p.aligned && is_aligned(p.gamma) && is_aligned(p.beta);
    }
    if (a->modulation) {
        p.modulation = (const T *)a->modulation->data + a->modulation_begin;
        p.ld_modulation = a->modulation->shape[1];
        p.aligned =
            p.aligned && is_aligned(p.modulation) && p.ld_modulation * (int64_t)sizeof(T) % 16 == 0;
    }
    return p;
}

#endif
