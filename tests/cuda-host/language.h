/* CUDA's keywords, vector types and functions of a single thread. */
#ifndef CCLD_TESTS_CUDA_HOST_LANGUAGE_H
#define CCLD_TESTS_CUDA_HOST_LANGUAGE_H

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
/* A block runs on one host thread (launch.cc fills these variables with NaN). */
#define __shared__ static thread_local

/* clang-format off */
#define CUDA_HOST_VECTORS(T, name, size1, size2, size4)                                            \
    struct alignas(size1) name##1 { T x; };                                                        \
    struct alignas(size2) name##2 { T x, y; };                                                     \
    struct name##3 { T x, y, z; };                                                                 \
    struct alignas(size4) name##4 { T x, y, z, w; };                                               \
    static inline name##1 make_##name##1(T x) { return {x}; }                                      \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; }                              \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                      \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_HOST_VECTORS(signed char, char, 1, 2, 4)
CUDA_HOST_VECTORS(unsigned char, uchar, 1, 2, 4)
CUDA_HOST_VECTORS(short, short, 2, 4, 8)
CUDA_HOST_VECTORS(unsigned short, ushort, 2, 4, 8)
CUDA_HOST_VECTORS(int, int, 4, 8, 16)
CUDA_HOST_VECTORS(unsigned, uint, 4, 8, 16)
CUDA_HOST_VECTORS(long long, longlong, 8, 16, 16)
CUDA_HOST_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
CUDA_HOST_VECTORS(float, float, 4, 8, 16)
CUDA_HOST_VECTORS(double, double, 8, 16, 16)
#undef CUDA_HOST_VECTORS

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned dx = 1, unsigned dy = 1, unsigned dz = 1) : x(dx), y(dy), z(dz) {}
};

#define CUDA_HOST_MIN_MAX(T)                                                                       \
    static inline T min(T a, T b) { return b < a ? b : a; }                                        \
    static inline T max(T a, T b) { return a < b ? b : a; }
CUDA_HOST_MIN_MAX(int)
CUDA_HOST_MIN_MAX(unsigned)
CUDA_HOST_MIN_MAX(long)
CUDA_HOST_MIN_MAX(unsigned long)
CUDA_HOST_MIN_MAX(long long)
CUDA_HOST_MIN_MAX(unsigned long long)
#undef CUDA_HOST_MIN_MAX
/* Given NaN and a number, they return the number. */
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

/* glibc declares the names of the fast functions (__expf and others) itself. */
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
#define __tanf(x) tanf(x)
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float __frsqrt_rn(float x) { return (float)(1 / sqrt((double)x)); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; }
static inline float fdividef(float x, float y) { return x / y; }
static inline void sincospif(float x, float *s, float *c)
{
    double angle = M_PI * fmod((double)x, 2);
    *s = (float)sin(angle);
    *c = (float)cos(angle);
}
static inline float normcdff(float x) { return (float)(erfc((double)x * -M_SQRT1_2) / 2); }
static inline double normcdf(double x) { return erfc(x * -M_SQRT1_2) / 2; }

static inline int __float2int_rn(float x) { return (int)rintf(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline int __float2int_rd(float x) { return (int)floorf(x); }
static inline unsigned __float2uint_rn(float x) { return (unsigned)rintf(x); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }
template <typename To, typename From> static inline To cuda_host_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "sizes");
    To r;
    memcpy(&r, &x, sizeof r);
    return r;
}
static inline int __float_as_int(float x) { return cuda_host_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cuda_host_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return cuda_host_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cuda_host_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return cuda_host_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return cuda_host_bits<double>(x); }

static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
static inline int __mulhi(int x, int y) { return (int)((int64_t)x * y >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    __extension__ typedef unsigned __int128 wider;
    return (unsigned long long)((wider)x * y >> 64);
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n)
{
    return (unsigned)(((uint64_t)high << 32 | low) << (n & 31) >> 32);
}

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline void __stcg(T *p, T x) { *p = x; }
template <typename T> static inline void __stcs(T *p, T x) { *p = x; }
static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
/* clang-format on */

namespace cuda_host
{
/* Blocks may run on several host threads. f computes the new value from the old. */
template <typename T, typename F> T atomic_change(T *p, F f)
{
    T old, now;
    __atomic_load(p, &old, __ATOMIC_SEQ_CST);
    do
        now = f(old);
    while (!__atomic_compare_exchange(p, &old, &now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return old;
}
template <typename T> struct same {
    typedef T type;
};
} // namespace cuda_host

template <typename T> inline T atomicAdd(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return old + x; });
}
template <typename T> inline T atomicSub(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return old - x; });
}
template <typename T> inline T atomicMax(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return old < x ? x : old; });
}
template <typename T> inline T atomicMin(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return x < old ? x : old; });
}
template <typename T> inline T atomicOr(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return old | x; });
}
template <typename T> inline T atomicAnd(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T old) { return old & x; });
}
template <typename T> inline T atomicExch(T *p, typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [x](T) { return x; });
}
template <typename T>
inline T atomicCAS(T *p, typename cuda_host::same<T>::type expected,
                   typename cuda_host::same<T>::type x)
{
    return cuda_host::atomic_change(
        p, [=](T old) { return old == expected ? x : old; });
}
inline unsigned atomicInc(unsigned *p, unsigned last)
{
    return cuda_host::atomic_change(
        p, [last](unsigned old) { return old >= last ? 0 : old + 1; });
}

#endif
