/* 16-bit floats in software, rounded to nearest even. */
#ifndef CCLD_TESTS_CUDA_HOST_HALF_H
#define CCLD_TESTS_CUDA_HOST_HALF_H

#include "tests/cuda-host/language.h"

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __half2float(__half h)
{
    const uint32_t sign = (h.bits & 0x8000u) << 16, magnitude = (h.bits & 0x7fffu) << 13;
    /* The exponent's bias is 127 instead of 15; the multiplication normalizes subnormals. */
    uint32_t r = cuda_host_bits<uint32_t>(cuda_host_bits<float>(magnitude) * 0x1p112f);
    r = (h.bits & 0x7c00u) == 0x7c00u ? magnitude | 0x7f800000u : r;
    return cuda_host_bits<float>(r | sign);
}
static inline __half __float2half_rn(float f)
{
    uint32_t x = cuda_host_bits<uint32_t>(f);
    const uint32_t sign = x >> 16 & 0x8000u;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u)
        return {0x7fff};
    if (x >= 0x47800000u) /* 2^16 */
        return {(uint16_t)(sign | 0x7c00u)};
    if (x < 0x38800000u) { /* 2^-14: the sum's last bit is 2^-24, as a subnormal's */
        float sum = cuda_host_bits<float>(x) + 0.5f;
        return {(uint16_t)(sign | (cuda_host_bits<uint32_t>(sum) - 0x3f000000u))};
    }
    x += 0xc8000fffu + (x >> 13 & 1);
    return {(uint16_t)(sign | x >> 13)};
}
static inline float __bfloat162float(__nv_bfloat16 b)
{
    return cuda_host_bits<float>((uint32_t)b.bits << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    const uint32_t x = cuda_host_bits<uint32_t>(f);
    if ((x & 0x7fffffffu) > 0x7f800000u)
        return {0x7fff};
    return {(uint16_t)((x + 0x7fffu + (x >> 16 & 1)) >> 16)};
}
static inline __half __float2half(float f)
{
    return __float2half_rn(f);
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
    return __float2bfloat16_rn(f);
}
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__float2half_rn(x), __float2half_rn(y)};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __half22float2(__half2 h)
{
    return {__half2float(h.x), __half2float(h.y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 b)
{
    return {__bfloat162float(b.x), __bfloat162float(b.y)};
}
static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}
static inline __half __ushort_as_half(unsigned short bits)
{
    return {bits};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b)
{
    return b.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return {bits};
}

#endif
