#include "kernels/cuda/group_norm_statistics.cuh"

/* Memory traffic: x is read once and y written, by one launch, if a block or a cluster of blocks
 * can keep an image's slab in shared memory. Otherwise x is read for the statistics and again for
 * y: three times x's size, minus the part of x still in L2 at the second reading (all of some 30
 * MB). A residual is read with it.
 */

/* ---- layout */

static bool set_slab(group_norm_layout *l, int elements, int slab_groups)
{
    const int64_t width = (int64_t)slab_groups * l->group_channels;
    if (l->groups % slab_groups || width % elements || slab_groups > GROUP_NORM_SLAB_GROUPS ||
        width / elements > GROUP_NORM_THREADS)
        return false;
    l->slab_groups = slab_groups;
    l->columns = (int)(width / elements);
    return true;
}

/* Slabs of at least 128 bytes for narrow groups: fewer would waste parts of memory sectors, more
 * would mean fewer blocks and more groups to merge in each. */
static bool choose_slab(group_norm_layout *l, int elements, size_t element_bytes)
{
    l->segments = 1;
    l->columns = 0;
    for (int q = 1; q <= l->groups && q <= GROUP_NORM_SLAB_GROUPS; q++)
        if (set_slab(l, elements, q) &&
            (size_t)q * (size_t)l->group_channels * element_bytes >= 128)
            return true;
    if (l->columns)
        return true;
    if (l->group_channels % elements)
        return false;
    const int wide = l->group_channels / elements;
    l->slab_groups = 1;
    l->segments = (int)divide_up(wide, GROUP_NORM_THREADS);
    l->columns = (int)divide_up(wide, l->segments);
    return true;
}

static int lanes_for(const group_norm_layout *l, int64_t pixels, int threads)
{
    const int lanes = threads / l->columns;
    return (int)(lanes < 1 ? 1 : lanes < pixels ? lanes : pixels);
}

group_norm_layout group_norm_layout_of(const struct group_norm_args *a, int *elements)
{
    group_norm_layout l = {};
    const size_t element_bytes = size_of(a->x->dtype);
    l.channels = (int)a->x->shape[3];
    l.pixels = a->x->shape[1] * a->x->shape[2];
    l.groups = a->groups;
    l.group_channels = l.channels / l.groups;
    l.eps = a->eps;
    *elements = (int)(16 / element_bytes);
    if (l.channels % *elements || !choose_slab(&l, *elements, element_bytes)) {
        *elements = 1;
        choose_slab(&l, 1, element_bytes);
    }
    l.slabs = l.groups / l.slab_groups * l.segments;
    l.lanes = lanes_for(&l, l.pixels, GROUP_NORM_THREADS);
    /* Parts of at least 32 KiB, and no more than a block can merge quickly. */
    const int64_t bytes = l.pixels * l.columns * *elements * (int64_t)element_bytes;
    int64_t most = 1024 / l.slab_groups;
    most = most < GROUP_NORM_PARTS ? most : GROUP_NORM_PARTS;
    int64_t parts = divide_up(bytes, 32 << 10);
    parts = parts < most ? parts : most;
    l.part_pixels = divide_up(divide_up(l.pixels, parts), l.lanes) * l.lanes;
    l.parts = (int)divide_up(l.pixels, l.part_pixels);
    return l;
}

bool group_norm_divide(group_norm_layout *l, int elements, size_t element_bytes, int parts,
                       size_t most)
{
    const int64_t pixels = divide_up(l->pixels, parts);
    if (l->segments > 1 || parts > l->pixels || pixels > (int64_t)most)
        return false;
    const int per = l->group_channels % elements ? elements : 1;
    l->lanes = lanes_for(l, pixels, group_norm_whole_threads(per));
    l->parts = parts;
    l->part_pixels = pixels;
    return group_norm_slab_bytes(*l, elements, element_bytes) <= most;
}

int64_t group_norm_tile_pixels(const struct device *d, const group_norm_layout &l, int elements,
                               size_t element_bytes, int64_t images)
{
    const int64_t pixel_bytes = (int64_t)l.columns * elements * (int64_t)element_bytes;
    int64_t blocks = divide_up(8 * (int64_t)cuda_of(d)->multiprocessors, l.slabs * images);
    const int64_t most = divide_up(l.pixels * pixel_bytes, 32 << 10);
    blocks = blocks < most ? blocks : most;
    return divide_up(divide_up(l.pixels, blocks), 4 * l.lanes) * (4 * l.lanes);
}

/* ---- statistics */

template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(GROUP_NORM_THREADS, 2)
    partial_moments(group_norm_pointers<T> a, group_norm_layout l, moments *partial)
{
    DYNAMIC_SHARED(float, shared);
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, false);
    const int64_t begin = (int64_t)here.range * l.part_pixels;
    const int64_t end = min((long long)(begin + l.part_pixels), (long long)l.pixels);
    running_moments<VEC, PER> mine;
    if (!here.idle) {
        const T *image = a.x + here.image * l.pixels * l.channels;
        float shift[PER];
        load_shifts<VEC>(shift, image, l, here.channel);
        mine = moments_of_pixels < VEC, PER,
        VEC == 8 ? 4 : 8 > (begin + here.lane, end, l.lanes, shift, [&](int64_t p) {
                           return load_any<VEC>(image + p * l.channels + here.channel, a.aligned);
                       });
    }
    merge_threads<VEC, PER>(mine, l, here, end - begin, shared, [&](int g, const moments &m) {
        const int64_t group = here.image * l.groups + here.first_group + g;
        const int segment = here.slab % l.segments;
        partial[(group * l.segments + segment) * l.parts + here.range] = m;
    });
}

template <typename T>
void group_norm_partial_moments(struct device *d, const group_norm_layout &l, int elements,
                                const group_norm_pointers<T> &p, int64_t images)
{
    const dim3 grid((unsigned)l.parts, (unsigned)l.slabs, (unsigned)images);
    WITH_LAYOUT(l, elements, T, VEC, PER,
                LAUNCH((partial_moments<T, VEC, PER>), grid, group_norm_threads(l),
                       group_norm_merge_bytes(l, PER), stream_of(d), p, l, (moments *)p.partial));
}
template void group_norm_partial_moments(struct device *, const group_norm_layout &, int,
                                         const group_norm_pointers<float> &, int64_t);
template void group_norm_partial_moments(struct device *, const group_norm_layout &, int,
                                         const group_norm_pointers<half_t> &, int64_t);
template void group_norm_partial_moments(struct device *, const group_norm_layout &, int,
                                         const group_norm_pointers<bf16_t> &, int64_t);

/* ---- y, of which `to` is the place */

template <typename T, int VEC, int PER>
DEVICE_INLINE vec<T, VEC> normalized(const vec<T, VEC> &x, const float (&high)[PER],
                                     const float (&slope)[VEC], const float (&offset)[VEC],
                                     const group_norm_pointers<T> &a, const T *to)
{
    vec<float, VEC> z = to_floats(x);
#pragma unroll
    for (int j = 0; j < VEC; j++)
        z[j] = fmaf(z[j] - high[j / (VEC / PER)], slope[j], offset[j]);
    activate<T>(a.act, z);
    if (a.adds) {
        const T *residual = (const T *)((uintptr_t)to + a.residual);
        const vec<float, VEC> r = to_floats(load_any<VEC>(residual, a.aligned));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            z[j] += r[j];
    }
    return from_floats<T>(z);
}

template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(GROUP_NORM_THREADS, PER == 1 ? 3 : 2)
    normalize(group_norm_pointers<T> a, group_norm_layout l, T *y, int64_t tile_pixels)
{
    __shared__ slab_statistics statistics;
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, true);
    const int64_t image = here.image * l.pixels * l.channels;
    const T *from = a.x + image + here.channel;
    T *to = y + image + here.channel;
    pixel_walk<T> walk(l, here, tile_pixels, a.aligned);
    vec<T, VEC> in[4]; /* in flight while the statistics are merged */
    walk.load(in, from);
    merge_parts(statistics, a.partial, a.x + image, l, here);
    if (a.statistics && here.range == 0)
        keep_statistics(statistics, a.statistics, l, here);
    if (here.idle)
        return;
    float slope[VEC], offset[VEC];
    const channel_terms<VEC, PER> t = terms_of<VEC, PER>(statistics, a, l, here);
    slopes_of(t, slope, offset);
    while (walk.offset < walk.end) {
#pragma unroll
        for (int u = 0; u < 4; u++)
            if (walk.offset + u * walk.step < walk.end)
                store_any(
                    to + walk.offset + u * walk.step,
                    normalized(in[u], t.high, slope, offset, a, to + walk.offset + u * walk.step),
                    a.aligned);
        walk.offset += 4 * walk.step;
        walk.load(in, from);
    }
}

/* Of a part of an image in shared memory, gridDim.x of which make a cluster. */
template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(group_norm_whole_threads(PER), 1)
    normalize_whole(group_norm_pointers<T> a, group_norm_layout l, T *y, size_t bytes)
{
    __shared__ slab_statistics statistics;
    DYNAMIC_SHARED(unsigned char, shared);
    const vec<T, VEC> *slab = (const vec<T, VEC> *)shared + threadIdx.x;
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, false);
    const slab_part part = slab_part_of(l, here);
    const int64_t image = here.image * l.pixels * l.channels;
    slab_load((vec<T, VEC> *)shared, a.x + image, l, here, part, a.aligned);
    slab_load_end();
    slab_moments<T, VEC, PER>(statistics, a, slab, l, here, part, (float *)(shared + bytes));
    if (a.statistics && here.range == 0)
        keep_statistics(statistics, a.statistics, l, here);
    if (here.idle)
        return;
    float slope[VEC], offset[VEC];
    const channel_terms<VEC, PER> t = terms_of<VEC, PER>(statistics, a, l, here);
    slopes_of(t, slope, offset);
    const int64_t first = image + (part.begin + here.lane) * l.channels + here.channel;
    for (int64_t i = 0; i < part.count; i++) {
        T *to = y + first + i * l.lanes * l.channels;
        store_any(to, normalized(slab[i * blockDim.x], t.high, slope, offset, a, to), a.aligned);
    }
}

template <typename T>
static void in_blocks(struct device *d, group_norm_pointers<T> p, const group_norm_layout &l,
                      int elements, T *y, int64_t images)
{
    const size_t bytes = group_norm_slab_bytes(l, elements, sizeof(T));
    for (p.image0 = 0; p.image0 < images; p.image0 += GROUP_NORM_IMAGES) {
        const dim3 grid((unsigned)l.parts, (unsigned)l.slabs, group_norm_images(p.image0, images));
        WITH_LAYOUT(l, elements, T, VEC, PER,
                    LAUNCH_BLOCKS((normalize_whole<T, VEC, PER>), (unsigned)l.parts, grid,
                                  group_norm_threads(l), bytes + group_norm_merge_bytes(l, PER),
                                  stream_of(d), p, l, y, bytes));
    }
}

template <typename T>
static void in_parts(struct device *d, group_norm_pointers<T> p, const group_norm_layout &l,
                     int elements, T *y, int64_t images)
{
    for (p.image0 = 0; p.image0 < images; p.image0 += GROUP_NORM_IMAGES) {
        const unsigned now = group_norm_images(p.image0, images);
        group_norm_partial_moments(d, l, elements, p, now);
        const int64_t tile = group_norm_tile_pixels(d, l, elements, sizeof(T), now);
        const dim3 grid((unsigned)divide_up(l.pixels, tile), (unsigned)l.slabs, now);
        WITH_LAYOUT(l, elements, T, VEC, PER,
                    LAUNCH((normalize<T, VEC, PER>), grid, group_norm_threads(l), 0, stream_of(d),
                           p, l, y, tile));
    }
}

template <typename T> static void forward(struct device *d, const struct group_norm_args *a)
{
    int elements;
    group_norm_layout l = group_norm_layout_of(a, &elements);
    const int64_t images = a->x->shape[0];
    group_norm_pointers<T> p = group_norm_pointers_of<T>(a);
    T *y = (T *)a->y->data;
    p.aligned = p.aligned && is_aligned(y);
    const bool whole =
        group_norm_whole(&l, elements, sizeof(T), 1, [&](const group_norm_layout &w) {
            const size_t bytes = group_norm_slab_bytes(w, elements, sizeof(T));
            WITH_LAYOUT(w, elements, T, VEC, PER,
                        return cluster_fits(normalize_whole<T, VEC, PER>, (unsigned)w.parts,
                                            group_norm_threads(w),
                                            bytes + group_norm_merge_bytes(w, PER)));
        });
    const scratch partial(d, whole && l.parts == 1 ? 1 : group_norm_partial_bytes(l, images));
    p.partial = partial.as<moments>();
    if (whole)
        in_blocks(d, p, l, elements, y, images);
    else
        in_parts(d, p, l, elements, y, images);
}

void cuda_group_norm(struct device *d, const struct group_norm_args *a)
{
    if (count_of(a->x))
        WITH_TYPE(a->x->dtype, T, forward<T>(d, a));
}
