#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/group_norm.cuh"

/* With z = u * scale + offset, u the normalized x, dz = dy * act'(z) and, per channel over an
 * image's pixels, S = sum of dz and P = sum of dz * u: dx = (dz * scale - mean(dz * scale) - u *
 * mean(dz * scale * u)) / deviation, where the means over the group are sums over its channels of
 * scale * S and scale * P. The gradients of gamma, beta and modulation are S and P times factors
 * per channel. Statistics are those that the forward pass has kept, or are computed again.
 *
 * z is recomputed from x (for RELU it has y's sign), so that y is not read. Memory traffic: x for
 * statistics that were not kept; x and dy for S and P; x and dy again for dx, which is written:
 * five or six times x's size, minus what L2 still holds from the previous launch (some 30 MB for
 * each of two launches). Small images take one launch that reads x and dy once.
 *
 * The order of all sums depends only on an image's shape. */

constexpr int MAX_PARTS = 32; /* of S and P */
constexpr int FINISH_THREADS = 1024;

/* Outputs of the sums over an image's channels. */
template <typename T> struct channel_results {
    float *totals; /* [image, 2, c]: gradients of beta and gamma, or null */
    T *dmodulation;
};

/* S and P of one channel. Returns its scale. */
template <typename T>
DEVICE_INLINE float give_channel(const channel_results<T> &r, const group_norm_pointers<T> &a,
                                 int64_t image, int c, int channels, float s, float p)
{
    const float gamma = a.gamma ? a.gamma[c] : 1, beta = a.gamma ? a.beta[c] : 0;
    float scale = 1;
    if (a.modulation)
        scale += to_float(a.modulation[image * a.ld_modulation + c]);
    if (r.dmodulation) {
        T *row = r.dmodulation + image * a.ld_modulation;
        row[c] = from_float<T>(fmaf(gamma, p, beta * s));
        row[channels + c] = from_float<T>(s);
    }
    if (r.totals) {
        float *row = r.totals + image * 2 * channels;
        row[c] = scale * s;
        row[channels + c] = scale * p;
    }
    return gamma * scale;
}

/* A thread's S and P. dz * (x - high) is summed in P's place until finish(). */
template <int VEC> struct running_sums {
    float s[VEC] = {}, p[VEC] = {};

    template <typename T, int PER>
    __device__ __forceinline__ void add(const vec<T, VEC> &x, const vec<T, VEC> &dy,
                                        const float (&high)[PER], const float (&slope)[VEC],
                                        const float (&offset)[VEC], enum activation_kind act)
    {
        vec<float, VEC> f = to_floats(x), dz = to_floats(dy), z;
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            f[j] -= high[j / (VEC / PER)];
            z[j] = fmaf(f[j], slope[j], offset[j]);
        }
        activate_backward<T>(act, dz, z);
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            s[j] += dz[j];
            p[j] = fmaf(dz[j], f[j], p[j]);
        }
    }
    template <int PER> __device__ __forceinline__ void finish(const channel_terms<VEC, PER> &t)
    {
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            const int i = j / (VEC / PER);
            p[j] = (p[j] - t.low[i] * s[j]) * t.inverse[i];
        }
    }
};

/* Sums of each channel of the slab over the block's lanes, at shared[channel - first] (S) and
 * shared[columns * VEC + channel - first] (P). All threads must call this. shared: 2 * lanes *
 * columns * VEC floats. */
template <int VEC>
DEVICE_INLINE void sum_lanes(const running_sums<VEC> &mine, const group_norm_layout &l,
                             const group_norm_place &here, float *shared)
{
    const int width = l.columns * VEC, pitch = 2 * width;
    if (!here.idle) {
        vec<float, VEC> s, p;
#pragma unroll
        for (int j = 0; j < VEC; j++) {
            s[j] = mine.s[j];
            p[j] = mine.p[j];
        }
        store_vec(shared + here.lane * pitch + here.column * VEC, s);
        store_vec(shared + here.lane * pitch + width + here.column * VEC, p);
    }
    __syncthreads();
    const int channels = here.end - here.first;
    for (int i = (int)threadIdx.x; i < 2 * channels; i += (int)blockDim.x) {
        const int at = i < channels ? i : width + i - channels;
        float sum = 0;
        for (int lane = 0; lane < l.lanes; lane++)
            sum += shared[lane * pitch + at];
        shared[at] = sum; /* nobody else reads lane 0's */
    }
    __syncthreads();
}

/* dx = dz * slope + (x - high) * along + constant, plus what is present, if it is added to. */
template <int VEC, int PER> struct gradient_terms {
    float along[PER], constant[PER];
};

template <typename T, int VEC, int PER>
DEVICE_INLINE vec<T, VEC> x_gradient(const vec<T, VEC> &x, const vec<T, VEC> &dy,
                                     const float (&high)[PER], const float (&slope)[VEC],
                                     const float (&offset)[VEC], const gradient_terms<VEC, PER> &t,
                                     enum activation_kind act, const T *present, bool aligned)
{
    vec<float, VEC> f = to_floats(x), dz = to_floats(dy), z;
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        f[j] -= high[j / (VEC / PER)];
        z[j] = fmaf(f[j], slope[j], offset[j]);
    }
    activate_backward<T>(act, dz, z);
#pragma unroll
    for (int j = 0; j < VEC; j++) {
        const int i = j / (VEC / PER);
        z[j] = fmaf(dz[j], slope[j], fmaf(f[j], t.along[i], t.constant[i]));
    }
    if (present) {
        const vec<float, VEC> r = to_floats(load_any<VEC>(present, aligned));
#pragma unroll
        for (int j = 0; j < VEC; j++)
            z[j] += r[j];
    }
    return from_floats<T>(z);
}

/* means: of dz * scale and dz * scale * u over each of the slab's groups, as pairs. */
template <int VEC, int PER>
DEVICE_INLINE gradient_terms<VEC, PER>
gradient_terms_of(const channel_terms<VEC, PER> &t, const float *means, const group_norm_layout &l,
                  const group_norm_place &here)
{
    gradient_terms<VEC, PER> r;
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const int g = (here.channel + i * (VEC / PER)) / l.group_channels - here.first_group;
        r.along[i] = -t.inverse[i] * t.inverse[i] * means[2 * g + 1];
        r.constant[i] = fmaf(-t.low[i], r.along[i], -t.inverse[i] * means[2 * g]);
    }
    return r;
}

/* ---- images in parts */

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
    sum_lanes(mine, l, here, shared);
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

/* Sums of each channel of the slab over the block's lanes, to row[channel]. All threads call it;
 * needs lanes * columns * VEC floats of dynamic shared memory. */
template <int VEC>
DEVICE_INLINE void sum_dx(const vec<float, VEC> &mine, const group_norm_layout &l,
                          const group_norm_place &here, float *row)
{
    DYNAMIC_SHARED(float, shared);
    const int width = l.columns * VEC;
    if (!here.idle)
        store_vec(shared + here.lane * width + here.column * VEC, mine);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < here.end - here.first; i += (int)blockDim.x) {
        float sum = 0;
        for (int lane = 0; lane < l.lanes; lane++)
            sum += shared[lane * width + i];
        row[here.first + i] = sum;
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
    if (here.idle && !sums)
        return;
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
    if (sums)
        sum_dx(mine, l, here, sums + (here.image * gridDim.x + here.range) * l.channels);
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
static void in_parts(struct device *d, group_norm_pointers<T> p, const group_norm_layout &l,
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
        const size_t shared = (size_t)(2 * l.lanes * l.columns * elements) * sizeof(float);
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

/* ---- a block for all of its groups */

/* Computes the statistics again and synchronizes. */
template <typename T, int VEC, int PER>
DEVICE_INLINE void slab_moments(slab_statistics &statistics, const group_norm_pointers<T> &a,
                                const vec<T, VEC> *slab, int64_t count, const group_norm_layout &l,
                                const group_norm_place &here, float *shared)
{
    const T *image = a.x + here.image * l.pixels * l.channels;
    running_moments<VEC, PER> mine;
    if (!here.idle) {
        float shift[PER];
        load_shifts<VEC>(shift, image, l, here.channel);
        mine = moments_of_pixels < VEC, PER,
        VEC == 8 ? 2 : 4 > (0, count, 1, shift, [&](int64_t i) { return slab[i * blockDim.x]; });
    }
    merge_threads<VEC, PER>(mine, l, here, l.pixels, shared, [&](int g, const moments &m) {
        const int c = (here.first_group + g) * l.group_channels;
        set_statistics(statistics, g, m, to_float(image[c]), l.eps);
    });
    __syncthreads();
}

template <typename T, int VEC, int PER>
static __global__ void __launch_bounds__(GROUP_NORM_WHOLE_THREADS, 1)
    whole_backward(group_norm_pointers<T> a, group_norm_layout l, const T *dy, T *dx, bool adds,
                   channel_results<T> r, size_t bytes)
{
    __shared__ slab_statistics statistics;
    __shared__ float means[2 * GROUP_NORM_SLAB_GROUPS];
    DYNAMIC_SHARED(unsigned char, shared);
    float *const sums = (float *)(shared + 2 * bytes);
    const group_norm_place here = group_norm_here<VEC>(l, a.image0, false);
    const int64_t image = here.image * l.pixels * l.channels;
    slab_load((vec<T, VEC> *)shared, a.x + image, l, here, a.aligned);
    slab_load((vec<T, VEC> *)(shared + bytes), dy + image, l, here, a.aligned);
    slab_load_end();
    const vec<T, VEC> *x_slab = (const vec<T, VEC> *)shared + threadIdx.x;
    const vec<T, VEC> *dy_slab = (const vec<T, VEC> *)(shared + bytes) + threadIdx.x;
    const int64_t count = here.lane < l.pixels ? (l.pixels - here.lane - 1) / l.lanes + 1 : 0;
    if (a.statistics)
        kept_statistics(statistics, a.statistics, l, here);
    else
        slab_moments<T, VEC, PER>(statistics, a, x_slab, count, l, here, sums);
    running_sums<VEC> mine;
    channel_terms<VEC, PER> t;
    float slope[VEC], offset[VEC];
    if (!here.idle) {
        t = terms_of<VEC, PER>(statistics, a, l, here);
        slopes_of(t, slope, offset);
        for (int64_t i = 0; i < count; i++)
            mine.add(x_slab[i * blockDim.x], dy_slab[i * blockDim.x], t.high, slope, offset, a.act);
        mine.finish(t);
    }
    sum_lanes(mine, l, here, sums);
    for (int g = (int)threadIdx.x / 32; g < l.slab_groups; g += (int)blockDim.x / 32) {
        float of_group[2] = {0, 0};
        for (int i = (int)threadIdx.x % 32; i < l.group_channels; i += 32) {
            const int at = g * l.group_channels + i;
            const float s = sums[at], p = sums[l.columns * VEC + at];
            const float scale = give_channel(r, a, here.image, here.first + at, l.channels, s, p);
            of_group[0] = fmaf(scale, s, of_group[0]);
            of_group[1] = fmaf(scale, p, of_group[1]);
        }
        const float count_of_group = (float)l.group_channels * (float)l.pixels;
        means[2 * g] = warp_sum(of_group[0]) / count_of_group;
        means[2 * g + 1] = warp_sum(of_group[1]) / count_of_group;
    }
    __syncthreads();
    if (here.idle || !dx)
        return;
    const gradient_terms<VEC, PER> terms = gradient_terms_of(t, means, l, here);
    T *to = dx + image + here.lane * (int64_t)l.channels + here.channel;
    for (int64_t i = 0; i < count; i++) {
        T *at = to + i * l.lanes * l.channels;
        store_any(at,
                  x_gradient(x_slab[i * blockDim.x], dy_slab[i * blockDim.x], t.high, slope, offset,
                             terms, a.act, adds ? at : nullptr, a.aligned),
                  a.aligned);
    }
}

template <typename T>
static void in_blocks(struct device *d, group_norm_pointers<T> p, const group_norm_layout &l,
                      int elements, int64_t images, const T *dy, T *dx, bool adds,
                      const channel_results<T> &results)
{
    const size_t bytes = group_norm_slab_bytes(l, elements, sizeof(T));
    const size_t sums = (size_t)(2 * l.lanes * l.columns * elements) * sizeof(float);
    for (p.image0 = 0; p.image0 < images; p.image0 += GROUP_NORM_IMAGES) {
        const dim3 grid(1, (unsigned)l.slabs, group_norm_images(p.image0, images));
        WITH_LAYOUT(l, elements, T, VEC, PER,
                    LAUNCH((whole_backward<T, VEC, PER>), grid, group_norm_threads(l),
                           2 * bytes + sums, stream_of(d), p, l, dy, dx, adds, results, bytes));
    }
}

template <typename T>
static void backward(struct device *d, const struct group_norm_backward_args *a)
{
    const struct group_norm_args *f = &a->forward;
    int elements;
    group_norm_layout l = group_norm_layout_of(f, &elements);
    const int64_t images = f->x->shape[0];
    const bool parameters = a->dgamma || a->dbeta;
    group_norm_pointers<T> p = group_norm_pointers_of<T>(f);
    const T *dy = (const T *)a->dy->data;
    T *dx = a->dx ? (T *)a->dx->data : nullptr;
    p.aligned = p.aligned && is_aligned(dy) && is_aligned(dx);
    const scratch totals(d, (size_t)(parameters ? images * 2 * l.channels : 1) * sizeof(float));
    channel_results<T> results = {};
    if (parameters)
        results.totals = totals.as<float>();
    if (a->dmodulation)
        results.dmodulation = (T *)a->dmodulation->data + f->modulation_begin;
    const bool whole = group_norm_whole(&l, elements, sizeof(T), 2);
    /* Sums of dx come from the pass that writes it, or from one of their own if images are small.
     */
    const int64_t rows =
        images * divide_up(l.pixels, whole ? l.pixels : sums_part_pixels(l, elements, sizeof(T)));
    const scratch of_parts(d,
                           (size_t)(a->dx_sums && !whole ? rows * l.channels : 1) * sizeof(float));
    if (whole)
        in_blocks(d, p, l, elements, images, dy, dx, a->adds, results);
    else
        in_parts(d, p, l, elements, images, dy, dx, a->adds, results,
                 a->dx_sums ? of_parts.as<float>() : nullptr);
    if (a->dx_sums && whole)
        add_column_sums(d, (float *)a->dx_sums->data, a->dy->dtype, dx, images * l.pixels,
                        l.channels, l.channels, a->fresh_sums);
    else if (a->dx_sums)
        add_column_sums(d, (float *)a->dx_sums->data, DTYPE_F32, of_parts.data, rows, l.channels,
                        l.channels, a->fresh_sums);
    if (a->dbeta)
        add_column_sums(d, (float *)a->dbeta->data, DTYPE_F32, results.totals, images, l.channels,
                        2 * l.channels, a->fresh);
    if (a->dgamma)
        add_column_sums(d, (float *)a->dgamma->data, DTYPE_F32, results.totals + l.channels, images,
                        l.channels, 2 * l.channels, a->fresh);
}

void cuda_group_norm_backward(struct device *d, const struct group_norm_backward_args *a)
{
    if (count_of(a->dy))
        WITH_TYPE(a->dy->dtype, T, backward<T>(d, a));
}
