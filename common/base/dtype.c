#include "common/base/dtype.h"

#include <math.h>
#include <string.h>

#include "common/base/message.h"

static const struct {
    const char *name;
    size_t size;
} types[DTYPE_COUNT] = {
    [DTYPE_F32] = {"F32", 4},
    [DTYPE_F16] = {"F16", 2},
    [DTYPE_BF16] = {"BF16", 2},
    [DTYPE_F64] = {"F64", 8},
    [DTYPE_I64] = {"I64", 8},
    [DTYPE_I32] = {"I32", 4},
    [DTYPE_I16] = {"I16", 2},
    [DTYPE_I8] = {"I8", 1},
    [DTYPE_U8] = {"U8", 1},
    [DTYPE_BOOL] = {"BOOL", 1},
    [DTYPE_F8_E4M3] = {"F8_E4M3", 1},
    [DTYPE_F8_E5M2] = {"F8_E5M2", 1},
    [DTYPE_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 1},
    [DTYPE_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 1},
    [DTYPE_F8_E8M0] = {"F8_E8M0", 1},
    [DTYPE_U16] = {"U16", 2},
    [DTYPE_U32] = {"U32", 4},
    [DTYPE_U64] = {"U64", 8},
    [DTYPE_C64] = {"C64", 8},
};

size_t dtype_size(enum dtype d)
{
    CHECK((unsigned)d < DTYPE_COUNT);
    return types[d].size;
}

const char *dtype_name(enum dtype d)
{
    CHECK((unsigned)d < DTYPE_COUNT);
    return types[d].name;
}

bool dtype_parse(enum dtype *d, const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (!strcmp(types[i].name, name)) {
            *d = (enum dtype)i;
            return true;
        }
    return false;
}

bool dtype_is_float(enum dtype d)
{
    return d == DTYPE_F32 || d == DTYPE_F64 || d == DTYPE_F16 || d == DTYPE_BF16 ||
           (d >= DTYPE_F8_E4M3 && d <= DTYPE_F8_E5M2FNUZ);
}

size_t dtype_swap_size(enum dtype d)
{
    return d == DTYPE_C64 ? dtype_size(d) / 2 : dtype_size(d);
}

static inline float float_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t bits_of_float(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* The conversions are branch-free selects, which lets the compiler vectorize the loops below. */

static inline float half_to_float(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    /* Changes the exponent's bias from 15 to 127; infinity and NaN need the maximum exponent. */
    uint32_t normal = magnitude + (magnitude >= 0x0f800000u ? 0x70000000u : 0x38000000u);
    /* A subnormal is its ten bits times 2^-24. */
    uint32_t subnormal = bits_of_float((float)(int32_t)(h & 0x3ff) * 0x1p-24f);
    return float_from_bits(sign | (magnitude < 0x00800000u ? subnormal : normal));
}

static inline uint16_t float_to_half(float f)
{
    uint32_t u = bits_of_float(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    /* Adding 0.5 leaves round(f * 2^24) in the low bits: 0.5 has an ulp of 2^-24. */
    uint32_t clipped = a < 0x38800000u ? a : 0u;
    uint32_t subnormal = bits_of_float(float_from_bits(clipped) + 0.5f) - 0x3f000000u;
    uint32_t normal = (a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13;
    normal = a >= 0x477ff000u ? 0x7c00u : normal; /* 65520 and up round to infinity */
    uint32_t nan = 0x7e00u | (a >> 13 & 0x3ff);
    uint32_t r = a > 0x7f800000u ? nan : a < 0x38800000u ? subnormal : normal;
    return (uint16_t)(sign | r);
}

static inline uint16_t float_to_bfloat(float f)
{
    uint32_t u = bits_of_float(f);
    uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000u ? (u >> 16 | 0x40) : rounded);
}

float f16_to_f32(uint16_t h)
{
    return half_to_float(h);
}

uint16_t f32_to_f16(float f)
{
    return float_to_half(f);
}

/* Types of one byte: OCP's "8-bit Floating Point Specification" 1.0 and "Microscaling Formats"
 * 1.0; FNUZ: arXiv:2206.02915. */
static float byte_to_float(enum dtype d, uint8_t x)
{
    if (d == DTYPE_F8_E8M0)
        return x == 0xff ? NAN : ldexpf(1, x - 127);
    if (d == DTYPE_F8_E5M2)
        return half_to_float((uint16_t)(x << 8));
    if (d == DTYPE_F8_E4M3 ? (x & 0x7f) == 0x7f : x == 0x80)
        return NAN;
    int bits = d == DTYPE_F8_E5M2FNUZ ? 2 : 3; /* of the mantissa */
    int bias = d == DTYPE_F8_E4M3 ? 7 : d == DTYPE_F8_E4M3FNUZ ? 8 : 16;
    int exponent = (x & 0x7f) >> bits, mantissa = x & ((1 << bits) - 1);
    if (exponent > 0)
        mantissa |= 1 << bits;
    float magnitude = ldexpf((float)mantissa, (exponent > 0 ? exponent : 1) - bias - bits);
    return x & 0x80 ? -magnitude : magnitude;
}

static void bytes_to_floats(float *restrict dst, enum dtype d, const uint8_t *restrict src,
                            size_t n)
{
    float values[256];
    for (int x = 0; x < 256; x++)
        values[x] = byte_to_float(d, (uint8_t)x);
    for (size_t i = 0; i < n; i++)
        dst[i] = values[src[i]];
}

/* Sources may be unaligned (tensors in mapped files), so elements are copied with memcpy. */
#define CONVERT_LOOP(type, expression)                                                             \
    for (size_t i = 0; i < n; i++) {                                                               \
        type x;                                                                                    \
        memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                    \
        dst[i] = (expression);                                                                     \
    }                                                                                              \
    return

void dtype_to_f32(float *restrict dst, enum dtype d, const void *restrict src, size_t n)
{
    switch (d) {
    case DTYPE_F32:
        if (n)
            memcpy(dst, src, n * sizeof *dst);
        return;
    case DTYPE_F16:
        CONVERT_LOOP(uint16_t, half_to_float(x));
    case DTYPE_BF16:
        CONVERT_LOOP(uint16_t, float_from_bits((uint32_t)x << 16));
    case DTYPE_F64:
        CONVERT_LOOP(double, (float)x);
    case DTYPE_I64:
        CONVERT_LOOP(int64_t, (float)x);
    case DTYPE_I32:
        CONVERT_LOOP(int32_t, (float)x);
    case DTYPE_I16:
        CONVERT_LOOP(int16_t, (float)x);
    case DTYPE_I8:
        CONVERT_LOOP(int8_t, (float)x);
    case DTYPE_U8:
        CONVERT_LOOP(uint8_t, (float)x);
    case DTYPE_BOOL:
        CONVERT_LOOP(uint8_t, x ? 1.0f : 0.0f);
    case DTYPE_U16:
        CONVERT_LOOP(uint16_t, (float)x);
    case DTYPE_U32:
        CONVERT_LOOP(uint32_t, (float)x);
    case DTYPE_U64:
        CONVERT_LOOP(uint64_t, (float)x);
    case DTYPE_F8_E4M3:
    case DTYPE_F8_E5M2:
    case DTYPE_F8_E4M3FNUZ:
    case DTYPE_F8_E5M2FNUZ:
    case DTYPE_F8_E8M0:
        bytes_to_floats(dst, d, src, n);
        return;
    case DTYPE_C64:
    case DTYPE_COUNT:
        break;
    }
    CHECK(!"a dtype of real numbers");
}

void dtype_from_f32(enum dtype d, void *restrict dst, const float *restrict src, size_t n)
{
    char *out = dst;
    switch (d) {
    case DTYPE_F32:
        if (n)
            memcpy(dst, src, n * sizeof *src);
        return;
    case DTYPE_F16:
        for (size_t i = 0; i < n; i++) {
            uint16_t h = float_to_half(src[i]);
            memcpy(out + i * 2, &h, 2);
        }
        return;
    case DTYPE_BF16:
        for (size_t i = 0; i < n; i++) {
            uint16_t b = float_to_bfloat(src[i]);
            memcpy(out + i * 2, &b, 2);
        }
        return;
    default:
        CHECK(!"F32, F16 or BF16");
    }
}

bool all_finite(const float *x, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & UINT32_C(0x7f800000)) == UINT32_C(0x7f800000);
    }
    return !bad;
}
