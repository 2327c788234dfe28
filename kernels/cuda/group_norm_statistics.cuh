#ifndef CCLD_KERNELS_CUDA_GROUP_NORM_STATISTICS_CUH
#define CCLD_KERNELS_CUDA_GROUP_NORM_STATISTICS_CUH

#include "kernels/cuda/group_norm.cuh"

/* Statistics of group_norm's groups; see the top of group_norm.cuh. */

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

/* Other blocks of a cluster may have written them during this launch. */
DEVICE_INLINE moments load_moments(const moments *p)
{
    return {__ldcg(&p->n), __ldcg(&p->mean), __ldcg(&p->squares)};
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
            m = merged(m, load_moments(of_group + i));
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

/* ---- a part of an image that a block holds in shared memory: all of it, or what is left to one
 * block of a cluster */

/* Begin and end of the block's pixels, which may be none, and how many of them are the thread's. */
struct slab_part {
    int64_t begin, end, count;
};
DEVICE_INLINE slab_part slab_part_of(const group_norm_layout &l, const group_norm_place &here)
{
    slab_part p;
    p.begin = min((long long)(here.range * l.part_pixels), (long long)l.pixels);
    p.end = min((long long)(p.begin + l.part_pixels), (long long)l.pixels);
    const int64_t pixels = p.end - p.begin;
    p.count = here.lane < pixels ? (pixels - here.lane - 1) / l.lanes + 1 : 0;
    return p;
}

/* Loads it, each thread's vectors at [i * blockDim.x + threadIdx.x]. Only the thread itself reads
 * them, so no barrier is needed. slab_load_end() must follow. */
template <typename T, int VEC>
DEVICE_INLINE void slab_load(vec<T, VEC> *to, const T *image, const group_norm_layout &l,
                             const group_norm_place &here, const slab_part &part, bool aligned)
{
    if (here.idle)
        return;
    to += threadIdx.x;
    for (int64_t p = part.begin + here.lane; p < part.end; p += l.lanes, to += blockDim.x) {
        const T *vector = image + p * l.channels + here.channel;
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

/* The statistics of the slab's groups, from what the block, or each block of a cluster, holds of
 * them; synchronizes. slab: the thread's first vector. shared: as for merge_threads. */
template <typename T, int VEC, int PER>
DEVICE_INLINE void slab_moments(slab_statistics &s, const group_norm_pointers<T> &a,
                                const vec<T, VEC> *slab, const group_norm_layout &l,
                                const group_norm_place &here, const slab_part &part, float *shared)
{
    const T *image = a.x + here.image * l.pixels * l.channels;
    running_moments<VEC, PER> mine;
    if (!here.idle) {
        float shift[PER];
        load_shifts<VEC>(shift, image, l, here.channel);
        mine = moments_of_pixels < VEC, PER,
        VEC == 8 ? 2
                 : 4 > (0, part.count, 1, shift, [&](int64_t i) { return slab[i * blockDim.x]; });
    }
    moments *partial = (moments *)a.partial + (here.image * l.groups + here.first_group) * l.parts;
    merge_threads<VEC, PER>(
        mine, l, here, part.end - part.begin, shared, [&](int g, const moments &m) {
            if (l.parts > 1)
                partial[g * l.parts + here.range] = m;
            else
                set_statistics(s, g, m, to_float(image[(here.first_group + g) * l.group_channels]),
                               l.eps);
        });
    if (l.parts == 1) {
        __syncthreads();
        return;
    }
    cluster_barrier();
    merge_parts(s, a.partial, image, l, here);
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

#endif
