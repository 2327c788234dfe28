#include "common/base/dtype.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/synth.h"
#include "tests/support/tap.h"

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* IEEE 754 binary16 by its definition; magnitude only. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31)
        return mantissa ? NAN : INFINITY;
    return exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
}

static void test_half_to_float(void)
{
    int wrong = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        double want = half_value((uint16_t)h);
        float got = f16_to_f32((uint16_t)h);
        wrong += isnan(want) ? !isnan(got) : !(fabs(got) == want);
        wrong += (signbit(got) != 0) != h >> 15;
        if (!isnan(want))
            wrong += f32_to_f16(got) != h;
        else
            wrong += !isnan(f16_to_f32(f32_to_f16(got)));
    }
    tap_ok(wrong == 0, "all 65536 halves convert exactly and back");
}

/* Around every midpoint of adjacent halves: rounds down below, up above, to even at the midpoint.
 */
static void test_half_rounding(void)
{
    int wrong = 0;
    for (uint16_t h = 0; h < 0x7c00; h++) {
        double low = half_value(h), high = h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2);
        uint16_t even = (uint16_t)(h + (h & 1)), next = (uint16_t)(h + 1);
        wrong += f32_to_f16(middle) != even;
        wrong += f32_to_f16(nextafterf(middle, 0)) != h;
        wrong += f32_to_f16(nextafterf(middle, INFINITY)) != next;
        wrong += f32_to_f16(-middle) != (even | 0x8000);
    }
    tap_ok(wrong == 0, "f32_to_f16 rounds to nearest even, subnormals and overflow included");
    tap_ok(f32_to_f16(1e30f) == 0x7c00 && f32_to_f16(-INFINITY) == 0xfc00 &&
               f32_to_f16(1e-30f) == 0 && f32_to_f16(-0.0f) == 0x8000 &&
               isnan(f16_to_f32(f32_to_f16(from_bits(0x7f800001)))),
           "f32_to_f16 of huge, infinite, tiny, negative zero and NaN");
}

static float bf16_to_f32(uint16_t b)
{
    float f;
    dtype_to_f32(&f, DTYPE_BF16, &b, 1);
    return f;
}

static uint16_t f32_to_bf16(float f)
{
    uint16_t b;
    dtype_from_f32(DTYPE_BF16, &b, &f, 1);
    return b;
}

static void test_bfloat(void)
{
    int wrong = 0;
    for (uint32_t b = 0; b < 65536; b++) {
        float f = bf16_to_f32((uint16_t)b);
        wrong += to_bits(f) != b << 16;
        if (isnan(f)) {
            wrong += !isnan(bf16_to_f32(f32_to_bf16(f)));
            wrong += !isnan(bf16_to_f32(f32_to_bf16(from_bits(b << 16 | 1))));
            continue;
        }
        wrong += f32_to_bf16(f) != b;
        if (isinf(f))
            continue;
        uint32_t middle = b << 16 | 0x8000;
        wrong += f32_to_bf16(from_bits(middle)) != (uint16_t)(b + (b & 1));
        wrong += f32_to_bf16(from_bits(middle - 1)) != (uint16_t)b;
        wrong += f32_to_bf16(from_bits(middle + 1)) != (uint16_t)(b + 1);
    }
    tap_ok(wrong == 0, "bfloat16 converts exactly, rounds to nearest even, keeps NaN");
    tap_ok(isnan(bf16_to_f32(f32_to_bf16(from_bits(0x7f800001)))) &&
               isnan(bf16_to_f32(f32_to_bf16(from_bits(0x7fffffff)))),
           "NaNs with only low bits do not become infinity");
}

/* Compares bulk conversions with single ones, from an odd address and for every short length. */
static void test_bulk(void)
{
    enum { N = 67 };
    float values[N], got[N + 1];
    synth_data(values, N, "bulk", 1, 3e-5);
    values[0] = INFINITY;
    values[1] = -7e4f;
    values[2] = 1e-7f;
    uint8_t packed[N * 4 + 1];
    int wrong = 0;
    for (size_t n = 0; n <= N; n++) {
        static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
        for (int t = 0; t < 3; t++) {
            memset(packed, 0xa5, sizeof packed);
            dtype_from_f32(types[t], packed + 1, values, n);
            wrong += n < N && packed[1 + n * dtype_size(types[t])] != 0xa5;
            got[n] = 42;
            dtype_to_f32(got, types[t], packed + 1, n);
            wrong += got[n] != 42;
            for (size_t i = 0; i < n; i++) {
                float want = t == 0   ? values[i]
                             : t == 1 ? f16_to_f32(f32_to_f16(values[i]))
                                      : bf16_to_f32(f32_to_bf16(values[i]));
                wrong += !(got[i] == want);
            }
        }
    }
    tap_ok(wrong == 0, "bulk conversions agree with single ones, unaligned, and stay in bounds");
}

static void test_integers(void)
{
    const int64_t i64[] = {-5, INT64_C(1) << 40};
    const int32_t i32[] = {-7, 1 << 30};
    const int16_t i16[] = {-300, 32767};
    const int8_t i8[] = {-128, 127};
    const uint8_t u8[] = {0, 255}, flags[] = {0, 2};
    const uint16_t u16[] = {32768, 65535};
    const uint32_t u32[] = {0, UINT32_MAX};
    const uint64_t u64[] = {1, UINT64_MAX};
    const double f64[] = {0.1, -1e300};
    struct {
        enum dtype d;
        const void *data;
        float want[2];
    } cases[] = {
        {DTYPE_I64, i64, {-5, 0x1p40f}},  {DTYPE_I32, i32, {-7, 0x1p30f}},
        {DTYPE_I16, i16, {-300, 32767}},  {DTYPE_I8, i8, {-128, 127}},
        {DTYPE_U8, u8, {0, 255}},         {DTYPE_BOOL, flags, {0, 1}},
        {DTYPE_U16, u16, {32768, 65535}}, {DTYPE_U32, u32, {0, 0x1p32f}},
        {DTYPE_U64, u64, {1, 0x1p64f}},   {DTYPE_F64, f64, {0.1f, -HUGE_VALF}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float got[2];
        dtype_to_f32(got, cases[i].d, cases[i].data, 2);
        tap_ok(got[0] == cases[i].want[0] && got[1] == cases[i].want[1], "%s to float",
               dtype_name(cases[i].d));
    }
}

/* All values of a type of one byte, by the definition of its format. tests/golden/types.c compares
 * them with PyTorch's. */
static void test_byte_floats(void)
{
    static const struct {
        enum dtype d;
        int bits, bias; /* of the mantissa, of the exponent */
        bool fnuz;
        float largest;
    } types[] = {{DTYPE_F8_E4M3, 3, 7, false, 448},
                 {DTYPE_F8_E5M2, 2, 15, false, 57344},
                 {DTYPE_F8_E4M3FNUZ, 3, 8, true, 240},
                 {DTYPE_F8_E5M2FNUZ, 2, 16, true, 57344}};
    uint8_t bytes[256];
    float got[256];
    for (int x = 0; x < 256; x++)
        bytes[x] = (uint8_t)x;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int wrong = 0, bits = types[i].bits;
        float largest = 0;
        dtype_to_f32(got, types[i].d, bytes, 256);
        for (int x = 0; x < 256; x++) {
            int exponent = x % 128 >> bits, mantissa = x % (1 << bits);
            double want = exponent ? ldexp((1 << bits) + mantissa, exponent - types[i].bias - bits)
                                   : ldexp(mantissa, 1 - types[i].bias - bits);
            if (types[i].fnuz ? x == 128 : x % 128 == 127)
                want = NAN;
            else if (types[i].d == DTYPE_F8_E5M2 && exponent == 31)
                want = mantissa ? NAN : INFINITY;
            wrong += isnan(want) ? !isnan(got[x])
                                 : !(got[x] == (float)(x < 128 ? want : -want)) ||
                                       (signbit(got[x]) != 0) != x >> 7;
            largest = isfinite(got[x]) ? fmaxf(largest, got[x]) : largest;
        }
        tap_ok(wrong == 0 && largest == types[i].largest, "%s to float", dtype_name(types[i].d));
    }
    dtype_to_f32(got, DTYPE_F8_E8M0, bytes, 256);
    tap_ok(got[0] == 0x1p-127f && got[127] == 1 && got[254] == 0x1p127f && isnan(got[255]),
           "F8_E8M0 to float");
}

static void test_names(void)
{
    static const size_t sizes[DTYPE_COUNT] = {4, 2, 2, 8, 8, 4, 2, 1, 1, 1,
                                              1, 1, 1, 1, 1, 2, 4, 8, 8};
    int wrong = 0;
    for (int d = 0; d < DTYPE_COUNT; d++) {
        enum dtype back = DTYPE_COUNT;
        wrong += !dtype_parse(&back, dtype_name((enum dtype)d)) || (int)back != d;
        wrong += dtype_size((enum dtype)d) != sizes[d];
    }
    enum dtype d;
    wrong += dtype_parse(&d, "F4") || dtype_parse(&d, "") || dtype_parse(&d, "f32");
    tap_ok(wrong == 0, "names and sizes");
}

static void test_finite(void)
{
    float x[9] = {0, -0.0f, 1, FLT_MAX, -FLT_MAX, FLT_TRUE_MIN, 3, 4, 5};
    tap_ok(all_finite(x, 9) && all_finite(x, 0), "the largest and smallest numbers are finite");
    x[8] = INFINITY;
    tap_ok(!all_finite(x, 9) && all_finite(x, 8), "infinity is not");
    x[4] = NAN;
    tap_ok(!all_finite(x, 8), "NaN is not");
}

int main(void)
{
    test_half_to_float();
    test_half_rounding();
    test_bfloat();
    test_bulk();
    test_integers();
    test_byte_floats();
    test_names();
    test_finite();
    return tap_done();
}
