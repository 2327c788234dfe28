#include "kernels/cuda/group_norm_backward.cuh"

/* Gradients of group_norm by one launch. A block, or each block of a cluster, keeps its part of an
 * image's x and dy in shared memory. What parts have in common passes through device memory, where
 * each block finishes its share of the channels; so do the sums over all images, which the last
 * block to end with the same share adds up in order. */

struct image_sums {
    float *dgamma, *dbeta, *dx_sums; /* null: not wanted */
    bool fresh, fresh_sums;
    float *of_images; /* [image, c]: sums of dx */
    float *of_parts;  /* [image, part, 3, c], if there are several: S, P and sums of dx */
    float *of_groups; /* [image, group, part, 2], likewise: sums of scale * S and scale * P */
    unsigned *counters;
};

/* The block's share of the slab's channels. */
struct channel_share {
    int begin, end;
};
DEVICE_INLINE channel_share share_of(const group_norm_layout &l, const group_norm_place &here)
{
    const int share = (here.end - here.first + l.parts - 1) / l.parts;
    channel_share s;
    s.begin = min(here.first + here.range * share, here.end);
    s.end = min(s.begin + share, here.end);
    return s;
}

/* The sum over parts of row `row` of of_parts, for channel c. */
DEVICE_INLINE float sum_parts(const image_sums &t, const group_norm_layout &l, int64_t image,
                              int row, int c)
{
    const float *p = t.of_parts + (image * l.parts * 3 + row) * l.channels + c;
    float sum = 0;
    for (int part = 0; part < l.parts; part++)
        sum += __ldcg(p + (int64_t)part * 3 * l.channels);
    return sum;
}

/* Sums over the slab's channels of scale * S and scale * P for each of its groups: warp w of the
 * block has group w and so on. give(group, sums) is called by all lanes. */
template <typename SCALE, typename GIVE>
DEVICE_INLINE void sum_groups(const group_norm_layout &l, const float *s, const float *p,
                              SCALE scale, GIVE give)
{
    for (int g = (int)threadIdx.x / 32; g < l.slab_groups; g += (int)blockDim.x / 32) {
        float of_group[2] = {0, 0};
        for (int i = (int)threadIdx.x % 32; i < l.group_channels; i += 32) {
            const int at = g * l.group_channels + i;
            const float factor = scale(at);
            of_group[0] = fmaf(factor, s[at], of_group[0]);
            of_group[1] = fmaf(factor, p[at], of_group[1]);
        }
        of_group[0] = warp_sum(of_group[0]);
        of_group[1] = warp_sum(of_group[1]);
        give(g, of_group);
    }
}

/* From S and P of the whole image: all results per channel, and the groups' means. */
template <typename T>
DEVICE_INLINE void finish_image(const group_norm_pointers<T> &a, const group_norm_layout &l,
                                const group_norm_place &here, const float *s, const float *p,
                                const channel_results<T> &r, float *means)
{
    const float count = (float)l.group_channels * (float)l.pixels;
    const auto scale = [&](int at) {
        return give_channel(r, a, here.image, here.first + at, l.channels, s[at], p[at]);
    };
    sum_groups(l, s, p, scale, [&](int g, const float(&of_group)[2]) {
        means[2 * g] = of_group[0] / count;
        means[2 * g + 1] = of_group[1] / count;
    });
    __syncthreads();
}

/* Hands the part's S and P to the other blocks of the cluster, and its share of the groups' sums.
 */
template <typename T>
DEVICE_INLINE void share_part(const group_norm_pointers<T> &a, const group_norm_layout &l,
                              const group_norm_place &here, const float *s, const float *p,
                              const image_sums &t, float *groups)
{
    float *row = t.of_parts + (here.image * l.parts + here.range) * 3 * l.channels + here.first;
    for (int i = (int)threadIdx.x; i < here.end - here.first; i += (int)blockDim.x) {
        row[i] = s[i];
        row[l.channels + i] = p[i];
    }
    const auto scale = [&](int at) {
        const int c = here.first + at;
        return (a.gamma ? a.gamma[c] : 1) * modulated_by(a, here.image, c);
    };
    sum_groups(l, s, p, scale, [&](int g, const float(&of_group)[2]) {
        if (threadIdx.x % 32 == 0) {
            groups[(g * l.parts + here.range) * 2] = of_group[0];
            groups[(g * l.parts + here.range) * 2 + 1] = of_group[1];
        }
    });
}

/* The same from S and P of the block's part, together with the other blocks of the cluster. */
template <typename T>
DEVICE_INLINE void finish_part(const group_norm_pointers<T> &a, const group_norm_layout &l,
                               const group_norm_place &here, const float *s, const float *p,
                               const channel_results<T> &r, const image_sums &t, float *means)
{
    float *groups = t.of_groups + (here.image * l.groups + here.first_group) * l.parts * 2;
    share_part(a, l, here, s, p, t, groups);
    cluster_barrier();
    const float count = (float)l.group_channels * (float)l.pixels;
    for (int i = (int)threadIdx.x; i < 2 * l.slab_groups; i += (int)blockDim.x) {
        float sum = 0;
        for (int part = 0; part < l.parts; part++)
            sum += __ldcg(groups + (i / 2 * l.parts + part) * 2 + i % 2);
        means[i] = sum / count;
    }
    const channel_share mine = share_of(l, here);
    for (int c = mine.begin + (int)threadIdx.x; c < mine.end; c += (int)blockDim.x)
        give_channel(r, a, here.image, c, l.channels, sum_parts(t, l, here.image, 0, c),
                     sum_parts(t, l, here.image, 1, c));
    __syncthreads();
}

template <typename T>
DEVICE_INLINE void finish_sums(const group_norm_pointers<T> &a, const group_norm_layout &l,
                               const group_norm_place &here, const float *s, const float *p,
                               const channel_results<T> &r, const image_sums &t, float *means)
{
    if (l.parts > 1)
        finish_part(a, l, here, s, p, r, t, means);
    else
        finish_image(a, l, here, s, p, r, means);
}

/* to[c] = (or +=) the sum of from[image * pitch + c] over all images, for a share of the channels.
 * All threads call it. shared: a float for each. */
DEVICE_INLINE void sum_over_images(float *to, bool fresh, const float *from, int64_t images,
                                   int64_t pitch, const channel_share &mine, float *shared)
{
    const int threads = (int)blockDim.x, rank = (int)threadIdx.x;
    for (int begin = mine.begin; begin < mine.end; begin += threads) {
        const int width = min(threads, mine.end - begin), turns = threads / width;
        float sum = 0;
        for (int64_t i = rank / width; i < images && rank < turns * width; i += turns)
            sum += __ldcg(from + i * pitch + begin + rank % width);
        __syncthreads();
        shared[rank] = sum;
        __syncthreads();
        if (rank >= width)
            continue;
        float total = 0;
        for (int turn = 0; turn < turns; turn++)
            total += shared[turn * width + rank];
        float *out = to + begin + rank;
        *out = fresh ? total : *out + total;
    }
}

/* Gradients of parameters, once every image's are there. */
template <typename T>
DEVICE_INLINE void finish_images(const group_norm_layout &l, const group_norm_place &here,
                                 const channel_results<T> &r, const image_sums &t, float *shared)
{
    if (!t.dgamma && !t.dbeta && !t.dx_sums)
        return;
    if (!is_last_block(t.counters + here.slab * l.parts + here.range, gridDim.z))
        return;
    const channel_share mine = share_of(l, here);
    const int64_t images = gridDim.z, pitch = 2 * l.channels;
    if (t.dbeta)
        sum_over_images(t.dbeta, t.fresh, r.totals, images, pitch, mine, shared);
    if (t.dgamma)
        sum_over_images(t.dgamma, t.fresh, r.totals + l.channels, images, pitch, mine, shared);
    if (t.dx_sums)
        sum_over_images(t.dx_sums, t.fresh_sums, t.of_images, images, l.channels, mine, shared);
}

/* This image's sums of dx, from the thread's own. */
template <int VEC>
DEVICE_INLINE void finish_dx(const float (&mine)[VEC], const group_norm_layout &l,
                             const group_norm_place &here, const image_sums &t, float *shared)
{
    float *image = t.of_images + here.image * l.channels;
    float *part = t.of_parts + ((here.image * l.parts + here.range) * 3 + 2) * l.channels;
    float *row = (l.parts > 1 ? part : image) + here.first;
    sum_lanes<VEC>(mine, l, here, shared, [&](int i, float sum) { row[i] = sum; });
    if (l.parts == 1)
        return;
    cluster_barrier();
    const channel_share share = share_of(l, here);
    for (int c = share.begin + (int)threadIdx.x; c < share.end; c += (int)blockDim.x)
        image[c] = sum_parts(t, l, here.image, 2, c);
}

/* What a thread holds of x and dy, and what it needs to get z from x. */
template <typename T, int VEC, int PER> struct held_column {
    const vec<T, VEC> *x, *dy; /* blockDim.x apart */
    channel_terms<VEC, PER> terms;
    float slope[VEC], offset[VEC];
};

/* Writes dx, or adds it to `to`, the column's first element there, and sums what it has written. */
template <typename T, int VEC, int PER>
DEVICE_INLINE void write_dx(const held_column<T, VEC, PER> &h, const gradient_terms<VEC, PER> &g,
                            const group_norm_pointers<T> &a, const group_norm_layout &l,
                            int64_t count, bool adds, T *to, float (&total)[VEC])
{
    for (int64_t i = 0; i < count; i++) {
        T *at = to + i * l.lanes * l.channels;
        const vec<T, VEC> v =
            x_gradient(h.x[i * blockDim.x], h.dy[i * blockDim.x], h.terms.high, h.slope, h.offset,
                       g, a.act, adds ? at : nullptr, a.aligned);
        store_any(at, v, a.aligned);
#pragma unroll
        for (int j = 0; j < VEC; j++)
            total[j] += to_float(v[j]);
    }
}

template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(group_norm_whole_threads(PER), 1)
    whole_backward(group_norm_pointers<T> a, group_norm_layout l, const T *dy, T *dx, bool adds,
                   channel_results<T> r, image_sums t, size_t bytes)
{
    __shared__ slab_statistics statistics;
    __shared__ float means[2 * GROUP_NORM_SLAB_GROUPS];
    DYNAMIC_SHARED(unsigned char, shared);
    float *const sums = (float *)(shared + 2 * bytes), *const rows = sums + 2 * l.columns * VEC;
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, false);
    const slab_part part = slab_part_of(l, here);
    const int64_t image = here.image * l.pixels * l.channels;
    held_column<T, VEC, PER> h;
    h.x = (const vec<T, VEC> *)shared + threadIdx.x;
    h.dy = (const vec<T, VEC> *)(shared + bytes) + threadIdx.x;
    slab_load((vec<T, VEC> *)shared, a.x + image, l, here, part, a.aligned);
    slab_load((vec<T, VEC> *)(shared + bytes), dy + image, l, here, part, a.aligned);
    slab_load_end();
    if (a.statistics)
        kept_statistics(statistics, a.statistics, l, here);
    else
        slab_moments<T, VEC, PER>(statistics, a, h.x, l, here, part, sums);
    running_sums<VEC> mine;
    if (!here.idle) {
        h.terms = terms_of<VEC, PER>(statistics, a, l, here);
        slopes_of(h.terms, h.slope, h.offset);
        for (int64_t i = 0; i < part.count; i++)
            mine.add(h.x[i * blockDim.x], h.dy[i * blockDim.x], h.terms.high, h.slope, h.offset,
                     a.act);
        mine.finish(h.terms);
    }
    sum_lanes<VEC>(mine, l, here, sums);
    finish_sums(a, l, here, sums, sums + l.columns * VEC, r, t, means);
    float total[VEC] = {};
    if (dx && !here.idle)
        write_dx(h, gradient_terms_of(h.terms, means, l, here), a, l, part.count, adds,
                 dx + image + (part.begin + here.lane) * l.channels + here.channel, total);
    if (t.dx_sums)
        finish_dx<VEC>(total, l, here, t, rows);
    finish_images(l, here, r, t, rows);
}

/* ---- host functions */

/* Dynamic shared memory: x, dy, and room for sums that is used in turn. */
static size_t shared_bytes(const group_norm_layout &l, int elements, size_t element_bytes)
{
    const int sums = sums_floats(l, elements);
    const int reduction = 2 * l.columns * elements + (int)group_norm_threads(l);
    const int merging = 2 * l.columns * l.lanes * (l.group_channels % elements ? elements : 1);
    const int most = sums > reduction ? sums : reduction;
    return 2 * group_norm_slab_bytes(l, elements, element_bytes) +
           (size_t)(most > merging ? most : merging) * sizeof(float);
}

template <typename T> static bool divide(group_norm_layout *l, int elements)
{
    return group_norm_whole(
        l, elements, sizeof(T), 2,
        [&](const group_norm_layout &w) {
            WITH_LAYOUT(w, elements, T, VEC, PER,
                        return w.slabs * w.parts <= COUNTERS &&
                               cluster_fits(whole_backward<T, VEC, PER>, (unsigned)w.parts,
                                            group_norm_threads(w),
                                            shared_bytes(w, elements, sizeof(T))));
        });
}

static image_sums sums_of(const struct device *d, const struct group_norm_backward_args *a)
{
    image_sums t = {};
    t.dgamma = a->dgamma ? (float *)a->dgamma->data : nullptr;
    t.dbeta = a->dbeta ? (float *)a->dbeta->data : nullptr;
    t.dx_sums = a->dx_sums ? (float *)a->dx_sums->data : nullptr;
    t.fresh = a->fresh;
    t.fresh_sums = a->fresh_sums;
    t.counters = cuda_of(d)->counters;
    return t;
}

template <typename T>
bool group_norm_backward_whole(struct device *d, const struct group_norm_backward_args *a,
                               const group_norm_pointers<T> &pointers, group_norm_layout l,
                               int elements, const channel_results<T> &results)
{
    const int64_t images = a->dy->shape[0];
    if (images > GROUP_NORM_IMAGES || !divide<T>(&l, elements))
        return false;
    const size_t rows = l.parts > 1 ? (size_t)(images * l.parts) : 0;
    const scratch of_images(d, (size_t)(a->dx_sums ? images * l.channels : 1) * sizeof(float));
    const scratch of_parts(d, (rows * 3 * (size_t)l.channels + 1) * sizeof(float));
    const scratch of_groups(d, (rows * 2 * (size_t)l.groups + 1) * sizeof(float));
    const scratch moments_memory(d, pointers.statistics ? 1 : group_norm_partial_bytes(l, images));
    group_norm_pointers<T> p = pointers;
    p.partial = moments_memory.as<moments>();
    image_sums t = sums_of(d, a);
    t.of_images = of_images.as<float>();
    t.of_parts = of_parts.as<float>();
    t.of_groups = of_groups.as<float>();
    const dim3 grid((unsigned)l.parts, (unsigned)l.slabs, (unsigned)images);
    WITH_LAYOUT(l, elements, T, VEC, PER,
                LAUNCH_BLOCKS((whole_backward<T, VEC, PER>), (unsigned)l.parts, grid,
                              group_norm_threads(l), shared_bytes(l, elements, sizeof(T)),
                              stream_of(d), p, l, (const T *)a->dy->data,
                              a->dx ? (T *)a->dx->data : nullptr, a->adds, results, t,
                              group_norm_slab_bytes(l, elements, sizeof(T))));
    return true;
}
#define INSTANCE(T)                                                                                \
    template bool group_norm_backward_whole(                                                       \
        struct device *, const struct group_norm_backward_args *, const group_norm_pointers<T> &,  \
        group_norm_layout, int, const channel_results<T> &);
INSTANCE(float)
INSTANCE(half_t)
INSTANCE(bf16_t)
