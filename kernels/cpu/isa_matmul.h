/* Part of isa_template.h: products of matrices and the packing of their sides. */

/* sum[i] += row[i][at] * b, b being `vectors` vectors. */
INLINE void add_product(const int rows, const int vectors, vec sum[ROWS][VECTORS],
                        const float *const row[ROWS], int64_t at, const float *b)
{
    vec right[VECTORS];
#pragma GCC unroll 3
    for (int j = 0; j < vectors; j++)
        right[j] = load(b + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        vec left = splat(row[i][at]);
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            sum[i][j] += left * right[j];
    }
}

INLINE void tile_of(const int rows, const int vectors, int taps, const float *const *a, int64_t k,
                    const float *b, float *c, int64_t ldc, const float *init)
{
    vec sum[ROWS][VECTORS];
    load_tile(rows, vectors, sum, c, ldc, init);
    for (int tap = 0; tap < taps; tap++, a += rows) {
        const float *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            row[i] = a[i];
        for (int64_t m = 0; m < k; m++, b += vectors * LANES)
            add_product(rows, vectors, sum, row, m, b);
    }
    store_tile(rows, vectors, sum, c, ldc);
}

INLINE void tile_rows(const int rows, int vectors, int taps, const float *const *a, int64_t k,
                      const float *b, float *c, int64_t ldc, const float *init)
{
    switch (vectors) {
    case 1:
        tile_of(rows, 1, taps, a, k, b, c, ldc, init);
        break;
    case 2:
        tile_of(rows, 2, taps, a, k, b, c, ldc, init);
        break;
#if VECTORS >= 3
    case 3:
        tile_of(rows, 3, taps, a, k, b, c, ldc, init);
        break;
#endif
    }
}

static void tile(int vectors, int taps, const float *const *a, int64_t k, const float *b, float *c,
                 int64_t ldc, const float *init)
{
    tile_rows(ROWS, vectors, taps, a, k, b, c, ldc, init);
}

static void half_tile(int vectors, int taps, const float *const *a, int64_t k, const float *b,
                      float *c, int64_t ldc, const float *init)
{
    tile_rows(ROWS / 2, vectors, taps, a, k, b, c, ldc, init);
}

INLINE void tile_strided_of(const int vectors, const float *a, int64_t a_row, int64_t a_step,
                            int64_t k, const float *b, float *c, int64_t ldc, bool accumulate)
{
    vec sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            sum[i][j] = accumulate ? load(c + i * ldc + j * LANES) : splat(0);
    const float *row[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
        row[i] = a + i * a_row;
    for (int64_t m = 0, at = 0; m < k; m++, at += a_step, b += vectors * LANES)
        add_product(ROWS, vectors, sum, row, at, b);
    store_tile(ROWS, vectors, sum, c, ldc);
}

static void tile_strided(int vectors, const float *a, int64_t a_row, int64_t a_step, int64_t k,
                         const float *b, float *c, int64_t ldc, bool accumulate)
{
    switch (vectors) {
    case 1:
        tile_strided_of(1, a, a_row, a_step, k, b, c, ldc, accumulate);
        break;
    case 2:
        tile_strided_of(2, a, a_row, a_step, k, b, c, ldc, accumulate);
        break;
#if VECTORS >= 3
    case 3:
        tile_strided_of(3, a, a_row, a_step, k, b, c, ldc, accumulate);
        break;
#endif
    }
}

/* result[i] = element which[i] of a and b together; which is constant after unrolling. */
INLINE vec shuffle(vec a, vec b, ivec which)
{
#if defined(__clang__)
    vec out;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        out[i] = which[i] < LANES ? a[which[i]] : b[which[i] - LANES];
    return out;
#else
    return __builtin_shuffle(a, b, which);
#endif
}

/* v[i] and v[i + s] exchange blocks of s lanes. */
INLINE void swap_blocks(vec v[LANES], const int i, const int s)
{
    vec a = v[i], b = v[i + s];
#if LANES == 16
    /* One instruction each where a permutation of two vectors takes two. */
    __m512 x = (__m512)a, y = (__m512)b;
    v[i] = s == 1   ? (vec)_mm512_mask_moveldup_ps(x, 0xaaaa, y)
           : s == 2 ? (vec)_mm512_unpacklo_pd((__m512d)x, (__m512d)y)
           : s == 4 ? (vec)_mm512_mask_shuffle_f32x4(x, 0xf0f0, y, y, 0xa0)
                    : (vec)_mm512_shuffle_f32x4(x, y, 0x44);
    v[i + s] = s == 1   ? (vec)_mm512_mask_movehdup_ps(y, 0x5555, x)
               : s == 2 ? (vec)_mm512_unpackhi_pd((__m512d)x, (__m512d)y)
               : s == 4 ? (vec)_mm512_mask_shuffle_f32x4(y, 0x0f0f, x, x, 0xf5)
                        : (vec)_mm512_shuffle_f32x4(x, y, 0xee);
#else
    ivec low, high;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j & s ? LANES + (j ^ s) : j;
        high[j] = j & s ? LANES + j : j ^ s;
    }
    v[i] = shuffle(a, b, low);
    v[i + s] = shuffle(a, b, high);
#endif
}

/* In-register transpose of LANES vectors. */
INLINE void transpose(vec v[LANES])
{
#pragma GCC unroll 4
    for (int s = 1; s < LANES; s *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & s))
                swap_blocks(v, i, s);
}

INLINE vec load_some(const float *p, int64_t n)
{
    float some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return load(some);
}

/* Rows of weights are often read in pieces that are too short for a processor to foresee. */
#define PREFETCH_AHEAD 128 /* floats */

/* `count` columns of `rows` rows; the rest of v is zero. */
INLINE void load_columns(vec v[LANES], const float *src, int64_t ld, int rows, int64_t count)
{
    if (rows == LANES && count == LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            v[i] = load(src + i * ld);
            __builtin_prefetch(src + i * ld + PREFETCH_AHEAD);
        }
    } else {
        for (int i = 0; i < LANES; i++)
            v[i] = i < rows ? load_some(src + i * ld, count) : splat(0);
    }
}

static void pack(float *dst, int width, const float *src, int64_t ld, int rows, int64_t columns,
                 int taps)
{
    int64_t next_tap = columns / taps * width, next_channel = width - taps * next_tap;
    for (int i0 = 0; i0 < width; i0 += LANES) {
        int here = rows - i0 < LANES ? rows - i0 : LANES, tap = 0;
        float *to = dst + i0;
        for (int64_t j0 = 0; j0 < columns; j0 += LANES) {
            int64_t some = columns - j0 < LANES ? columns - j0 : LANES;
            vec v[LANES];
            load_columns(v, src + i0 * ld + j0, ld, here, some);
            transpose(v);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++) {
                if (j == some)
                    break;
                store(to, v[j]);
                to += next_tap;
                if (++tap == taps) {
                    tap = 0;
                    to += next_channel;
                }
            }
        }
    }
}

#if LANES == 16
#define HALVES_TO_FLOATS(p) (vec) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#elif LANES == 8
#define HALVES_TO_FLOATS(p) (vec) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#elif defined(__aarch64__)
#define HALVES_TO_FLOATS(p) (vec) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))
#endif

typedef uint16_t short_vec __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

/* LANES numbers of BF16. GCC converts 16 integers in two halves. */
INLINE vec load_shorts(const uint16_t *p)
{
#if LANES == 16
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16);
#else
    return (vec)(__builtin_convertvector(*(const short_vec *)p, ivec) << 16);
#endif
}

static void widen(float *dst, enum dtype dtype, const void *src, size_t n)
{
    size_t i = 0;
    const uint16_t *from = src;
    if (dtype == DTYPE_BF16)
        for (; i + LANES <= n; i += LANES)
            store(dst + i, load_shorts(from + i));
#ifdef HALVES_TO_FLOATS
    if (dtype == DTYPE_F16)
        for (; i + LANES <= n; i += LANES)
            store(dst + i, HALVES_TO_FLOATS(from + i));
#endif
    dtype_to_f32(dst + i, dtype, from + i, n - i);
}

/* Bits of BF16 in the lower half of each lane. NaN stays NaN. */
INLINE ivec rounded_bits(vec v)
{
    ivec bits = (ivec)v, up = ((bits >> 16) & 1) + 0x7fff;
    ivec nan = v != v;
    return (((nan & (bits | 0x400000)) | (~nan & (bits + up))) >> 16) & 0xffff;
}

static void narrow(void *dst, const float *src, size_t n)
{
    size_t i = 0;
    uint16_t *to = dst;
    for (; i + LANES <= n; i += LANES)
        *(short_vec *)(to + i) = __builtin_convertvector(rounded_bits(load(src + i)), short_vec);
    dtype_from_f32(DTYPE_BF16, to + i, src + i, n - i);
}

static void round_to_bf16(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        store(x + i, (vec)(ivec)((uvec)rounded_bits(load(x + i)) << 16));
}

static void pair(uint16_t *dst, const float *src, int width, int64_t k)
{
    for (int64_t i = 0; i < k; i += 2, src += 2 * width)
        for (int j = 0; j < width; j += LANES, dst += 2 * LANES) {
            ivec low = rounded_bits(load(src + j));
            ivec high = i + 1 < k ? rounded_bits(load(src + width + j)) : (ivec){0};
            vec both = (vec)(low | (ivec)((uvec)high << 16));
            memcpy(dst, &both, sizeof both);
        }
}
