#ifndef CCLD_KERNELS_CUDA_ACTIVATE_CUH
#define CCLD_KERNELS_CUDA_ACTIVATE_CUH

#include "kernels/cuda/internal.cuh"

/* The activations of kernels/ops.h within kernels. T is the type that z came from or goes to: for
 * 16 bits exponential and division are the fast versions, whose error of a few units in the last
 * place of F32 does not show in T; in F32 they are accurate to rounding. */

template <typename T> DEVICE_INLINE float sigmoid_of(float z)
{
    if (sizeof(T) == 2)
        return __fdividef(1.0f, 1.0f + __expf(-z));
    return 1.0f / (1.0f + expf(-z));
}

/* z[i] = act(z[i]). The switch is uniform across threads and outside the loops. */
template <typename T, int N> DEVICE_INLINE void activate(enum activation_kind act, vec<float, N> &z)
{
    switch (act) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_RELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            z[i] = z[i] < 0 ? 0 : z[i]; /* NaN stays NaN */
        break;
    case ACTIVATION_SILU:
#pragma unroll
        for (int i = 0; i < N; i++)
            z[i] *= sigmoid_of<T>(z[i]);
        break;
    case ACTIVATION_GELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            z[i] *= normcdff(z[i]);
        break;
    case ACTIVATION_LEAKY_RELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            z[i] = z[i] < 0 ? z[i] * LEAKY_RELU_SLOPE : z[i];
        break;
    }
}

/* d[i] *= act'(z[i]). */
template <typename T, int N>
DEVICE_INLINE void activate_backward(enum activation_kind act, vec<float, N> &d,
                                     const vec<float, N> &z)
{
    switch (act) {
    case ACTIVATION_NONE:
        break;
    case ACTIVATION_RELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            d[i] = z[i] <= 0 ? 0 : d[i];
        break;
    case ACTIVATION_SILU:
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float s = sigmoid_of<T>(z[i]);
            d[i] *= s * (1.0f + z[i] * (1.0f - s));
        }
        break;
    case ACTIVATION_GELU:
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float density = 0.3989422804f * expf(-0.5f * z[i] * z[i]);
            d[i] *= normcdff(z[i]) + z[i] * density;
        }
        break;
    case ACTIVATION_LEAKY_RELU:
#pragma unroll
        for (int i = 0; i < N; i++)
            d[i] = z[i] <= 0 ? d[i] * LEAKY_RELU_SLOPE : d[i];
        break;
    }
}

#endif
