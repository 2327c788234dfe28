#ifndef CCLD_KERNELS_CUDA_GROUP_NORM_BACKWARD_CUH
#define CCLD_KERNELS_CUDA_GROUP_NORM_BACKWARD_CUH

#include "kernels/cuda/group_norm_statistics.cuh"

/* What the ways of computing group_norm's gradients share.
 *
 * With z = u * scale + offset, u the normalized x, dz = dy * act'(z) and, per channel over an
 * image's pixels, S = sum of dz and P = sum of dz * u: dx = (dz * scale - mean(dz * scale) - u *
 * mean(dz * scale * u)) / deviation, where the means over the group are sums over its channels of
 * scale * S and scale * P. The gradients of gamma, beta and modulation are S and P times factors
 * per channel. Statistics are those that the forward pass has kept, or are computed again.
 *
 * z is recomputed from x (for RELU it has y's sign), so that y is not read. The order of all sums
 * depends only on an image's shape and on how many images there are. */

/* Outputs of the sums over an image's channels. */
template <typename T> struct channel_results {
    float *totals; /* [image, 2, c]: gradients of beta and gamma, or null */
    T *dmodulation;
};

/* What modulation multiplies a channel by. */
template <typename T>
DEVICE_INLINE float modulated_by(const group_norm_pointers<T> &a, int64_t image, int c)
{
    return a.modulation ? 1 + to_float(a.modulation[image * a.ld_modulation + c]) : 1;
}

/* S and P of one channel. Returns its scale. */
template <typename T>
DEVICE_INLINE float give_channel(const channel_results<T> &r, const group_norm_pointers<T> &a,
                                 int64_t image, int c, int channels, float s, float p)
{
    const float gamma = a.gamma ? a.gamma[c] : 1, beta = a.gamma ? a.beta[c] : 0;
    const float scale = modulated_by(a, image, c);
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

/* Sums of each channel of the slab over the block's lanes: give(channel - first, sum). All threads
 * call it. shared: lanes * columns * VEC floats, which the threads may write at once. */
template <int VEC, typename GIVE>
DEVICE_INLINE void sum_lanes(const float (&mine)[VEC], const group_norm_layout &l,
                             const group_norm_place &here, float *shared, GIVE give)
{
    const int width = l.columns * VEC;
    if (!here.idle) {
        vec<float, VEC> v;
#pragma unroll
        for (int j = 0; j < VEC; j++)
            v[j] = mine[j];
        store_vec(shared + here.lane * width + here.column * VEC, v);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < here.end - here.first; i += (int)blockDim.x) {
        float sum = 0;
        for (int lane = 0; lane < l.lanes; lane++)
            sum += shared[lane * width + i];
        give(i, sum);
    }
}

/* Those of S at shared[channel - first] and of P at shared[columns * VEC + channel - first];
 * synchronizes. shared: sums_floats(). */
template <int VEC>
DEVICE_INLINE void sum_lanes(const running_sums<VEC> &mine, const group_norm_layout &l,
                             const group_norm_place &here, float *shared)
{
    const int width = l.columns * VEC;
    float *rows = shared + 2 * width;
    sum_lanes<VEC>(mine.s, l, here, rows, [&](int i, float sum) { shared[i] = sum; });
    __syncthreads();
    sum_lanes<VEC>(mine.p, l, here, rows, [&](int i, float sum) { shared[width + i] = sum; });
    __syncthreads();
}
static inline int sums_floats(const group_norm_layout &l, int elements)
{
    return (l.lanes + 2) * l.columns * elements;
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

/* Everything in one launch, which reads x and dy once. Returns false, having done nothing, if
 * images are too large for that. */
template <typename T>
bool group_norm_backward_whole(struct device *d, const struct group_norm_backward_args *a,
                               const group_norm_pointers<T> &p, group_norm_layout l, int elements,
                               const channel_results<T> &results);

#endif
