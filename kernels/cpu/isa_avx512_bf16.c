#if defined(__x86_64__)
#define LANES   16
#define ROWS    8
#define VECTORS 3
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/isa.h"

#include "kernels/cpu/isa_vector.h"
#include "kernels/cpu/isa_tile.h"

/* Two products of BF16 pairs per lane, added to F32. */
INLINE vec add_pairs(vec sum, vec a, vec b)
{
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

INLINE vec splat_pair(const uint16_t *p)
{
    int32_t both;
    memcpy(&both, p, sizeof both);
    return (vec)(both - (ivec){0});
}

INLINE void tile_of(const int vectors, int taps, const uint16_t *const *a, int64_t k,
                    const uint16_t *b, float *c, int64_t ldc, const float *init)
{
    vec sum[ROWS][VECTORS];
    load_tile(ROWS, vectors, sum, c, ldc, init);
    for (int tap = 0; tap < taps; tap++, a += ROWS) {
        const uint16_t *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            row[i] = a[i];
        for (int64_t m = 0; m < k; m += 2, b += vectors * 2 * LANES) {
            vec right[VECTORS];
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++)
                memcpy(&right[j], b + j * 2 * LANES, sizeof right[j]);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                vec left = splat_pair(row[i] + m);
#pragma GCC unroll 3
                for (int j = 0; j < vectors; j++)
                    sum[i][j] = add_pairs(sum[i][j], left, right[j]);
            }
        }
    }
    store_tile(ROWS, vectors, sum, c, ldc);
}

static void tile(int vectors, int taps, const uint16_t *const *a, int64_t k, const uint16_t *b,
                 float *c, int64_t ldc, const float *init)
{
    switch (vectors) {
    case 1:
        tile_of(1, taps, a, k, b, c, ldc, init);
        break;
    case 2:
        tile_of(2, taps, a, k, b, c, ldc, init);
        break;
    case 3:
        tile_of(3, taps, a, k, b, c, ldc, init);
        break;
    }
}

INLINE __mmask16 first_lanes(int64_t n)
{
    return n >= LANES ? 0xffff : n > 0 ? (__mmask16)((1u << n) - 1) : 0;
}

/* The rest of a vector is zero. */
INLINE vec load_bf16(const uint16_t *p, int64_t n)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
    return (vec)_mm512_slli_epi32(wide, 16);
}

INLINE void store_bf16(uint16_t *p, vec v, int64_t n)
{
    _mm256_mask_storeu_epi16(p, first_lanes(n), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

INLINE vec load_floats(const float *p, int64_t n)
{
    return (vec)_mm512_maskz_loadu_ps(first_lanes(n), p);
}

static void narrow(uint16_t *dst, const float *src, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i += LANES)
        store_bf16(dst + i, load_floats(src + i, n - i) * scale, n - i);
}

/* 2^x to 4e-6, more than BF16 resolves, for x <= 0; below 2^-127 nothing is left after rounding. */
INLINE vec exp2_vec(vec x)
{
    x = (vec)_mm512_max_ps((__m512)splat(-127), (__m512)x); /* NaN stays NaN */
    vec whole = (vec)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT);
    vec r = x - whole, p = splat(9.6181291e-3f);
    p = p * r + 5.5503324e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
    return (vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
}

static float exponentials(uint16_t *dst, const float *x, int64_t n, float scale)
{
    vec tops = splat(x[0]), sums = splat(0);
    for (int64_t i = 0; i < n; i += LANES)
        tops = (vec)_mm512_mask_max_ps((__m512)tops, first_lanes(n - i), (__m512)tops,
                                       (__m512)load_floats(x + i, n - i));
    const vec by = splat(scale * 1.44269504088896341f);
    const vec top = splat(_mm512_reduce_max_ps((__m512)tops));
    for (int64_t i = 0; i < n; i += LANES) {
        vec e = exp2_vec((load_floats(x + i, n - i) - top) * by);
        __m256i rounded = (__m256i)_mm512_cvtneps_pbh((__m512)e);
        __m512i wide = _mm512_maskz_cvtepu16_epi32(first_lanes(n - i), rounded);
        _mm256_mask_storeu_epi16(dst + i, first_lanes(n - i), rounded);
        sums += (vec)_mm512_slli_epi32(wide, 16);
    }
    return _mm512_reduce_add_ps((__m512)sums);
}

/* Up to 16 or 32 columns of two rows. */
INLINE void pair_16(uint16_t *dst, const uint16_t *even, const uint16_t *odd, int columns)
{
    __mmask16 mask = first_lanes(columns);
    __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, even));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, odd));
    _mm512_storeu_si512(dst, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

INLINE void pair_32(uint16_t *dst, const uint16_t *even, const uint16_t *odd, int columns)
{
    static const int16_t halves[2][32] = {
        {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
         8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
        {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
         24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63},
    };
    __mmask32 mask = columns >= 32 ? ~0u : columns > 0 ? (1u << columns) - 1 : 0;
    __m512i first = _mm512_maskz_loadu_epi16(mask, even);
    __m512i second = _mm512_maskz_loadu_epi16(mask, odd);
    for (int i = 0; i < 2; i++) {
        __m512i order = _mm512_loadu_si512(halves[i]);
        _mm512_storeu_si512(dst + 32 * i, _mm512_permutex2var_epi16(first, order, second));
    }
}

/* A row that does not exist is read from zeros: a masked load from NULL takes hundreds of cycles.
 */
static void pair_rows(uint16_t *dst, const void *const *rows, int64_t k, int64_t first, int columns,
                      int width)
{
    static const uint16_t zeros[ISA_PAIRED_COLUMNS];
    for (int64_t i = 0; i < k; i += 2) {
        const uint16_t *even = rows[i], *odd = i + 1 < k ? rows[i + 1] : NULL;
        even = even ? even + first : zeros;
        odd = odd ? odd + first : zeros;
        int j = 0;
        for (; j + 2 * LANES <= width; j += 2 * LANES, dst += 4 * LANES)
            pair_32(dst, even + j, odd + j, columns - j);
        if (j < width) {
            pair_16(dst, even + j, odd + j, columns - j);
            dst += 2 * LANES;
        }
    }
}

/* The one-dimensional transforms of F(2, 3) at the points 0, 1, -1, infinity. */
INLINE void input_transform(vec y[4], const vec d[4])
{
    y[0] = d[0] - d[2];
    y[1] = d[1] + d[2];
    y[2] = d[2] - d[1];
    y[3] = d[1] - d[3];
}

INLINE void weight_transform(vec y[4], vec g0, vec g1, vec g2)
{
    vec ends = (g0 + g2) * 0.5f, middle = g1 * 0.5f;
    y[0] = g0;
    y[1] = ends + middle;
    y[2] = ends - middle;
    y[3] = g2;
}

static void winograd_input(uint16_t *dst, int64_t stride, const uint16_t *const *pixels,
                           int64_t channels)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        vec rows[4][4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            vec d[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                d[j] = load_bf16(pixels[i * 4 + j] + c, channels - c);
            input_transform(rows[i], d);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vec y[4];
            input_transform(y, (vec[]){rows[0][j], rows[1][j], rows[2][j], rows[3][j]});
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                store_bf16(dst + (i * 4 + j) * stride + c, y[i], LANES);
        }
    }
}

INLINE void transform_weight(vec y[4][4], const vec g[9])
{
    vec rows[3][4];
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
        weight_transform(rows[i], g[3 * i], g[3 * i + 1], g[3 * i + 2]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        vec column[4];
        weight_transform(column, rows[0][j], rows[1][j], rows[2][j]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            y[i][j] = column[i];
    }
}

/* Transforms two channels and writes them as pairs. */
INLINE void write_weights(uint16_t *u, int64_t stride, const vec even[9], const vec odd[9])
{
    static const int16_t interleaved[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                            21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                            11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_loadu_si512(interleaved);
    vec first[4][4], second[4][4];
    transform_weight(first, even);
    transform_weight(second, odd);
#pragma GCC unroll 16
    for (int p = 0; p < 16; p++) {
        __m512bh apart =
            _mm512_cvtne2ps_pbh((__m512)second[p / 4][p % 4], (__m512)first[p / 4][p % 4]);
        _mm512_storeu_si512(u + p * stride, _mm512_permutexvar_epi16(order, (__m512i)apart));
    }
}

static void winograd_weight(uint16_t *u, int64_t stride, int width, const float *g,
                            int64_t channels)
{
    for (int64_t c = 0; c < channels; c += 2, g += 2 * 9 * LANES, u += 2 * width) {
        vec even[9], odd[9] = {{0}};
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++) {
            even[i] = load(g + i * LANES);
            if (c + 1 < channels)
                odd[i] = load(g + (9 + i) * LANES);
        }
        write_weights(u, stride, even, odd);
    }
}

static void winograd_weight_pairs(uint16_t *u, int64_t stride, int width, const float *g,
                                  int64_t channels)
{
    for (int64_t c = 0; c < channels; c += 2, g += 9 * LANES, u += 2 * width) {
        vec both[18];
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++) {
            ivec pair = (ivec)load(g + i * LANES);
            both[2 * i] = (vec)(pair << 16);
            both[2 * i + 1] = (vec)(pair & ~0xffff);
        }
        write_weights(u, stride, both, both + 9);
    }
}

INLINE void put(uint16_t *pixel, int64_t c, vec v, int64_t n, const uint16_t *residual)
{
    if (pixel)
        store_bf16(pixel + c, residual ? v + load_bf16(residual + c, n) : v, n);
}

static void winograd_output(uint16_t *const *pixels, const float *m, int64_t stride,
                            int64_t channels, const float *bias, const uint16_t *const *residual)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec start = {0}, rows[2][4];
        if (bias)
            memcpy(&start, bias + c, (size_t)some * sizeof *bias);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vec d[4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                d[i] = load(m + (i * 4 + j) * stride + c);
            rows[0][j] = d[0] + d[1] + d[2];
            rows[1][j] = d[1] - d[2] - d[3];
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            const vec *d = rows[i];
            int left = 2 * i, right = left + 1;
            put(pixels[left], c, d[0] + d[1] + d[2] + start, some,
                residual ? residual[left] : NULL);
            put(pixels[right], c, d[1] - d[2] - d[3] + start, some,
                residual ? residual[right] : NULL);
        }
    }
}

const struct cpu_bf16 cpu_bf16_avx512 = {
    .name = "avx512-bf16",
    .tile = tile,
    .pair_rows = pair_rows,
    .narrow = narrow,
    .exponentials = exponentials,
    .winograd_input = winograd_input,
    .winograd_weight = winograd_weight,
    .winograd_weight_pairs = winograd_weight_pairs,
    .winograd_output = winograd_output,
};
#endif
typedef int translation_unit_not_empty;
