#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/group_norm_backward.cuh"

/* Gradients of group_norm for images that are too large for group_norm_backward_whole. Memory
 * traffic: x for statistics that were not kept; x and dy for S and P; x and dy again for dx, which
 * is written: five or six times x's size, minus what L2 still holds from the previous launch (some
 * 30 MB for each of two launches). */

constexpr int MAX_PARTS = 32; /* of S and P */
constexpr int FINISH_THREADS = 1024;

/* S and P of parts of an image, [image, part, 2, c]. */
template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(GROUP_NORM_THREADS, 2)
    partial_sums(group_norm_pointers<T> a, group_norm_layout l, const T *dy, float *partial,
                 int64_t part_pixels)
{
    constexpr int U = VEC == 1 ? 4 : PER == 8 ? 1 : 2; /* as registers allow */
    __shared__ slab_statistics statistics;
    DYNAMIC_SHARED(float, shared);
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, true);
    const int64_t image = here.image * l.pixels * l.channels;
    const T *x_from = a.x + image + here.channel, *dy_from = dy + image + here.channel;
    pixel_walk<T> walk(l, here, part_pixels, a.aligned);
    vec<T, VEC> xs[U], dys[U]; /* in flight while the statistics are merged */
    walk.load(xs, x_from);
    walk.load(dys, dy_from);
    find_statistics(statistics, a, l, here);
    running_sums<VEC> mine;
    if (!here.idle) {
        float slope[VEC], offset[VEC];
        const channel_terms<VEC, PER> t = terms_of<VEC, PER>(statistics, a, l, here);
        slopes_of(t, slope, offset);
        while (walk.offset < walk.end) {
#pragma unroll
            for (int u = 0; u < U; u++)
                if (walk.offset + u * walk.step < walk.end)
                    mine.add(xs[u], dys[u], t.high, slope, offset, a.act);
            walk.offset += U * walk.step;
            walk.load(xs, x_from);
            walk.load(dys, dy_from);
        }
        mine.finish(t);
    }
    sum_lanes<VEC>(mine, l, here, shared);
    float *row = partial + (here.image * gridDim.x + here.range) * 2 * l.channels;
    const int channels = here.end - here.first;
    for (int i = (int)threadIdx.x; i < channels; i += (int)blockDim.x) {
        row[here.first + i] = shared[i];
        row[l.channels + here.first + i] = shared[l.columns * VEC + i];
    }
}

/* All uses of the channels' sums, for one group of one image. */
template <typename T>
static __global__ void __launch_bounds__(FINISH_THREADS)
    finish_sums(group_norm_pointers<T> a, group_norm_layout l, const float *partial, int parts,
                channel_results<T> r, float *means)
{
    const int group = (int)blockIdx.x;
    const int64_t image = a.image0 + blockIdx.y;
    const float *rows = partial + image * parts * 2 * l.channels;
    float sums[2] = {0, 0};
    for (int i = (int)threadIdx.x; i < l.group_channels; i += (int)blockDim.x) {
        const int c = group * l.group_channels + i;
        float s = 0, p = 0;
#pragma unroll 8
        for (int part = 0; part < parts; part++) {
            s += rows[(int64_t)part * 2 * l.channels + c];
            p += rows[((int64_t)part * 2 + 1) * l.channels + c];
        }
        const float scale = give_channel(r, a, image, c, l.channels, s, p);
        sums[0] = fmaf(scale, s, sums[0]);
        sums[1] = fmaf(scale, p, sums[1]);
    }
    block_sum(sums);
    if (threadIdx.x < 2) {
        const float count = (float)l.group_channels * (float)l.pixels;
        means[(image * l.groups + group) * 2 + threadIdx.x] = sums[threadIdx.x] / count;
    }
}

template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(GROUP_NORM_THREADS, 2)
    gradient_by_x(group_norm_pointers<T> a, group_norm_layout l, const T *dy, const float *means,
                  T *dx, bool adds, int64_t tile_pixels, float *sums)
{
    constexpr int U = VEC == 1 ? 4 : PER == 8 ? 1 : 2; /* as registers allow */
    __shared__ slab_statistics statistics;
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, false);
    const int64_t image = here.image * l.pixels * l.channels;
    const T *x_from = a.x + image + here.channel, *dy_from = dy + image + here.channel;
    T *to = dx + image + here.channel;
    pixel_walk<T> walk(l, here, tile_pixels, a.aligned);
    vec<T, VEC> xs[U], dys[U];
    walk.load(xs, x_from);
    walk.load(dys, dy_from);
    find_statistics(statistics, a, l, here);
    vec<float, VEC> mine = {};
    if (!here.idle) {
        float slope[VEC], offset[VEC];
        const channel_terms<VEC, PER> t = terms_of<VEC, PER>(statistics, a, l, here);
        slopes_of(t, slope, offset);
        const gradient_terms<VEC, PER> g =
            gradient_terms_of(t, means + (here.image * l.groups + here.first_group) * 2, l, here);
        while (walk.offset < walk.end) {
#pragma unroll
            for (int u = 0; u < U; u++)
                if (walk.offset + u * walk.step < walk.end) {
                    T *at = to + walk.offset + u * walk.step;
                    const vec<T, VEC> r = x_gradient(xs[u], dys[u], t.high, slope, offset, g, a.act,
                                                     adds ? at : nullptr, a.aligned);
                    store_any(at, r, a.aligned);
#pragma unroll
                    for (int j = 0; j < VEC; j++)
                        mine[j] += to_float(r[j]);
                }
            walk.offset += U * walk.step;
            walk.load(xs, x_from);
            walk.load(dys, dy_from);
        }
    }
    if (!sums)
        return;
    DYNAMIC_SHARED(float, shared);
    float *row = sums + (here.image * gridDim.x + here.range) * l.channels + here.first;
    sum_lanes<VEC>(mine.v, l, here, shared, [&](int i, float sum) { row[i] = sum; });
}

/* Parts of at least 64 KiB of x. */
static int64_t sums_part_pixels(const group_norm_layout &l, int elements, size_t element_bytes)
{
    const int64_t bytes = l.pixels * l.columns * elements * (int64_t)element_bytes;
    int64_t parts = divide_up(bytes, 64 << 10);
    parts = parts < MAX_PARTS ? parts : MAX_PARTS;
    return divide_up(divide_up(l.pixels, parts), l.lanes) * l.lanes;
}

/* dx_sums: [image, part, c], or null. */
template <typename T>
static void launch_parts(struct device *d, group_norm_pointers<T> p, const group_norm_layout &l,
                         int elements, int64_t images, const T *dy, T *dx, bool adds,
                         const channel_results<T> &results, float *dx_sums)
{
    const int64_t part_pixels = sums_part_pixels(l, elements, sizeof(T));
    const int64_t parts = divide_up(l.pixels, part_pixels);
    const scratch moments_memory(d, p.statistics ? 1 : group_norm_partial_bytes(l, images));
    const scratch sums(d, (size_t)(images * parts * 2 * l.channels) * sizeof(float));
    const scratch means(d, (size_t)(images * l.groups * 2) * sizeof(float));
    const unsigned threads = group_norm_threads(l);
    const int finishing = l.group_channels < FINISH_THREADS
                              ? (int)divide_up(l.group_channels, 32) * 32
                              : FINISH_THREADS;
    p.partial = moments_memory.as<moments>();
    for (p.image0 = 0; p.image0 < images; p.image0 += GROUP_NORM_IMAGES) {
        const unsigned now = group_norm_images(p.image0, images);
        if (!p.statistics)
            group_norm_partial_moments(d, l, elements, p, now);
        const dim3 grid((unsigned)parts, (unsigned)l.slabs, now);
        const size_t shared = (size_t)sums_floats(l, elements) * sizeof(float);
        WITH_LAYOUT(l, elements, T, VEC, PER,
                    LAUNCH((partial_sums<T, VEC, PER>), grid, threads, shared, stream_of(d), p, l,
                           dy, sums.as<float>(), part_pixels));
        LAUNCH(finish_sums<T>, dim3((unsigned)l.groups, now), (unsigned)finishing, 0, stream_of(d),
               p, l, sums.as<float>(), (int)parts, results, means.as<float>());
        if (!dx)
            continue;
        const int64_t tile =
            dx_sums ? part_pixels : group_norm_tile_pixels(d, l, elements, sizeof(T), now);
        const size_t lanes = dx_sums ? (size_t)(l.lanes * l.columns * elements) * sizeof(float) : 0;
        const dim3 tiles((unsigned)divide_up(l.pixels, tile), (unsigned)l.slabs, now);
        WITH_LAYOUT(l, elements, T, VEC, PER,
                    LAUNCH((gradient_by_x<T, VEC, PER>), tiles, threads, lanes, stream_of(d), p, l,
                           dy, means.as<float>(), dx, adds, tile, dx_sums));
    }
}

/* Sums of dx come from the pass that writes it. */
template <typename T>
static void in_parts(struct device *d, const struct group_norm_backward_args *a,
                     const group_norm_pointers<T> &p, const group_norm_layout &l, int elements,
                     const channel_results<T> &results)
{
    const int64_t images = a->dy->shape[0];
    const int64_t rows = images * divide_up(l.pixels, sums_part_pixels(l, elements, sizeof(T)));
    const scratch of_parts(d, (size_t)(a->dx_sums ? rows * l.channels : 1) * sizeof(float));
    launch_parts(d, p, l, elements, images, (const T *)a->dy->data,
                 a->dx ? (T *)a->dx->data : nullptr, a->adds, results,
                 a->dx_sums ? of_parts.as<float>() : nullptr);
    if (a->dx_sums)
        add_column_sums(d, (float *)a->dx_sums->data, DTYPE_F32, of_parts.data, rows, l.channels,
                        l.channels, a->fresh_sums);
    if (a->dbeta)
        add_column_sums(d, (float *)a->dbeta->data, DTYPE_F32, results.totals, images, l.channels,
                        2 * l.channels, a->fresh);
    if (a->dgamma)
        add_column_sums(d, (float *)a->dgamma->data, DTYPE_F32, results.totals + l.channels, images,
                        l.channels, 2 * l.channels, a->fresh);
}

template <typename T>
static void backward(struct device *d, const struct group_norm_backward_args *a)
{
    const struct group_norm_args *f = &a->forward;
    int elements;
    const group_norm_layout l = group_norm_layout_of(f, &elements);
    const bool parameters = a->dgamma || a->dbeta;
    group_norm_pointers<T> p = group_norm_pointers_of<T>(f);
    p.aligned = p.aligned && is_aligned(a->dy->data) && (!a->dx || is_aligned(a->dx->data));
    const int64_t rows = parameters ? f->x->shape[0] * 2 : 0;
    const scratch totals(d, (size_t)(rows * l.channels + 1) * sizeof(float));
    channel_results<T> results = {};
    if (parameters)
        results.totals = totals.as<float>();
    if (a->dmodulation)
        results.dmodulation = (T *)a->dmodulation->data + f->modulation_begin;
    if (!group_norm_backward_whole(d, a, p, l, elements, results))
        in_parts(d, a, p, l, elements, results);
}

void cuda_group_norm_backward(struct device *d, const struct group_norm_backward_args *a)
{
    if (count_of(a->dy))
        WITH_TYPE(a->dy->dtype, T, backward<T>(d, a));
}
