#ifndef CCLD_KERNELS_CUDA_GROUP_NORM_CUH
#define CCLD_KERNELS_CUDA_GROUP_NORM_CUH

#include "kernels/cuda/activate.cuh"
#include "kernels/cuda/internal.cuh"

/* What the forward and backward passes of group_norm share: how images are divided among blocks.
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

constexpr int GROUP_NORM_THREADS = 256; /* of a block, at most */
/* The same if it holds its part of an image in shared memory; fewer if the elements of a vector
 * belong to several groups, which takes more registers. */
constexpr int group_norm_whole_threads(int per)
{
    return per > 1 ? 384 : 512;
}
constexpr int GROUP_NORM_SLAB_GROUPS = 128;  /* at most */
constexpr int GROUP_NORM_PARTS = 128;        /* of the statistics, at most */
constexpr int64_t GROUP_NORM_IMAGES = 65535; /* of one launch, at most */

struct group_norm_layout {
    int64_t pixels;
    int channels, groups, group_channels;
    int slabs, slab_groups, segments; /* slab_groups is 1 if there are several segments */
    int columns, lanes;
    int parts;
    int64_t part_pixels; /* the last part may have fewer, or parts none */
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

/* ---- host functions */

/* elements: per vector, wide_n<T>, reduced to 1 if the channels do not divide into such vectors.
 * For groups that fit in one block see group_norm_whole(). */
group_norm_layout group_norm_layout_of(const struct group_norm_args *a, int *elements);
/* Divides an image's slabs into l's parts, one for each block of a cluster (or one for the only
 * block), of which each holds at most `most` bytes in shared memory. False if it cannot be done. */
bool group_norm_divide(group_norm_layout *l, int elements, size_t element_bytes, int parts,
                       size_t most);

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
    return (size_t)divide_up(l.part_pixels, l.lanes) * group_norm_threads(l) * (size_t)elements *
           element_bytes;
}
/* Finds how one launch can do everything and read its `tensors` tensors of x's size once: with an
 * image's slab in the shared memory of as few blocks as can hold it. Two of them to a
 * multiprocessor are preferred, because one computes while the other loads. fits(l): whether the
 * GPU can launch that. Returns false, and leaves l as it is, if images are too large. */
template <typename FITS>
static inline bool group_norm_whole(group_norm_layout *l, int elements, size_t element_bytes,
                                    int tensors, FITS fits)
{
    static const struct {
        int parts;
        size_t kib;
    } divisions[] = {{1, 100}, {2, 100}, {4, 100}, {8, 100}, {16, 100}, {8, 200}, {16, 200}};
    for (const auto &division : divisions) {
        group_norm_layout whole = *l;
        if (group_norm_divide(&whole, elements, element_bytes, division.parts,
                              (division.kib << 10) / (size_t)tensors) &&
            fits(whole)) {
            *l = whole;
            return true;
        }
    }
    return false;
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
