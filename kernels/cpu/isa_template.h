/* Compiled once per instruction set by isa_*.c, which define ISA, LANES, ROWS and VECTORS. Written
 * with the compiler's vector types; multiplications and additions are contracted to FMA where the
 * instruction set has it. No include guard: one inclusion per file that defines the macros. */

#include <math.h>
#include <string.h>

#include "kernels/cpu/isa.h"

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float loose_vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p)
{
    return *(const loose_vec *)p;
}

INLINE void store(float *p, vec v)
{
    *(loose_vec *)p = v;
}

INLINE vec splat(float x)
{
    return x - (vec){0};
}

INLINE vec select(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

INLINE vec maximum(vec a, vec b)
{
    return select(a > b, a, b);
}

INLINE float sum_lanes(vec v)
{
    float s = 0;
    for (int i = 0; i < LANES; i++)
        s += v[i];
    return s;
}

/* exp by splitting x = n ln 2 + r and a degree-6 polynomial on r: 2 ulp; underflows to 0. */
INLINE vec exp_vec(vec x)
{
    const vec low = splat(-87.0f), high = splat(88.0f);
    ivec under = x < low;
    x = select(x > high, high, select(under, low, x));
    vec scaled = x * 1.44269504088896341f;
    ivec n = __builtin_convertvector(scaled + select(scaled < 0, splat(-0.5f), splat(0.5f)), ivec);
    vec nf = __builtin_convertvector(n, vec);
    vec r = x - nf * 0.693359375f;
    r = r + nf * 2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    vec power = (vec)((n + 127) << 23);
    return select(under, splat(0), p * power);
}

/* erf, Abramowitz and Stegun 7.1.26 is too coarse for float; this is the rational approximation on
 * |x| <= 4 (odd numerator over even denominator, from the same minimax family as Eigen's), within
 * 3e-7 of the exact value. */
INLINE vec erf_vec(vec x)
{
    const vec limit = splat(4.0f);
    x = select(x > limit, limit, select(x < -limit, -limit, x));
    vec x2 = x * x;
    vec p = splat(-2.72614225801306e-10f);
    p = p * x2 + 2.77068142495902e-08f;
    p = p * x2 + -2.10102402082508e-06f;
    p = p * x2 + -5.69250639462346e-05f;
    p = p * x2 + -7.34990630326855e-04f;
    p = p * x2 + -2.95459980854025e-03f;
    p = p * x2 + -1.60960333262415e-02f;
    p = p * x;
    vec q = splat(-1.45660718464996e-05f);
    q = q * x2 + -2.13374055278905e-04f;
    q = q * x2 + -1.68282697438203e-03f;
    q = q * x2 + -7.37332916720468e-03f;
    q = q * x2 + -1.42647390514189e-02f;
    return p / q;
}

INLINE vec activate(vec x, enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_RELU:
        return select(x < 0, splat(0), x); /* a NaN stays */
    case ACTIVATION_SILU:
        return x / (1.0f + exp_vec(-x));
    case ACTIVATION_GELU:
        return 0.5f * x * (1.0f + erf_vec(x * 0.70710678118654752f));
    default:
        return x;
    }
}

INLINE void tile_of(const int vectors, int taps, const float *const *a, int64_t k, const float *b,
                    float *c, int64_t ldc, const float *init)
{
    vec sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            sum[i][j] = load(init ? init + j * LANES : c + i * ldc + j * LANES);
    for (int tap = 0; tap < taps; tap++, a += ROWS) {
        const float *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            row[i] = a[i];
        for (int64_t m = 0; m < k; m++, b += vectors * LANES) {
            vec right[VECTORS];
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++)
                right[j] = load(b + j * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                vec left = splat(row[i][m]);
#pragma GCC unroll 3
                for (int j = 0; j < vectors; j++)
                    sum[i][j] += left * right[j];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            store(c + i * ldc + j * LANES, sum[i][j]);
}

static void tile(int vectors, int taps, const float *const *a, int64_t k, const float *b, float *c,
                 int64_t ldc, const float *init)
{
    switch (vectors) {
    case 1:
        tile_of(1, taps, a, k, b, c, ldc, init);
        break;
    case 2:
        tile_of(2, taps, a, k, b, c, ldc, init);
        break;
#if VECTORS >= 3
    case 3:
        tile_of(3, taps, a, k, b, c, ldc, init);
        break;
#endif
    }
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
    for (int64_t m = 0, at = 0; m < k; m++, at += a_step, b += vectors * LANES) {
        vec right[VECTORS];
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            right[j] = load(b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            vec left = splat(row[i][at]);
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++)
                sum[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            store(c + i * ldc + j * LANES, sum[i][j]);
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

/* In-register transpose of LANES vectors: stage s swaps the blocks of s lanes between rows s apart.
 */
INLINE void transpose(vec v[LANES])
{
#pragma GCC unroll 4
    for (int s = 1; s < LANES; s *= 2) {
        ivec low, high;
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            low[i] = i & s ? LANES + (i ^ s) : i;
            high[i] = i & s ? LANES + i : i ^ s;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & s)) {
                vec a = v[i], b = v[i + s];
                v[i] = __builtin_shuffle(a, b, low);
                v[i + s] = __builtin_shuffle(a, b, high);
            }
    }
}

INLINE vec load_some(const float *p, int64_t n)
{
    float some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return load(some);
}

static void pack(float *dst, int width, const float *src, int64_t ld, int rows, int64_t columns,
                 int taps)
{
    int64_t channels = columns / taps;
    for (int i0 = 0; i0 < width; i0 += LANES) {
        int here = rows - i0 < LANES ? rows - i0 : LANES;
        int tap = 0;
        int64_t channel = 0;
        for (int64_t j0 = 0; j0 < columns; j0 += LANES) {
            int64_t some = columns - j0 < LANES ? columns - j0 : LANES;
            vec v[LANES];
            if (here == LANES && some == LANES) {
#pragma GCC unroll 16
                for (int i = 0; i < LANES; i++)
                    v[i] = load(src + (i0 + i) * ld + j0);
            } else {
                for (int i = 0; i < LANES; i++)
                    v[i] = i < here ? load_some(src + (i0 + i) * ld + j0, some) : splat(0);
            }
            transpose(v);
            float out[LANES][LANES];
#pragma GCC unroll 16
            for (int j = 0; j < LANES; j++)
                store(out[j], v[j]);
            for (int j = 0; j < some; j++) {
                store(dst + (tap * channels + channel) * width + i0, load(out[j]));
                if (++tap == taps) {
                    tap = 0;
                    channel++;
                }
            }
        }
    }
}

INLINE void dot_block(const int rows, const int columns, float *y, int64_t ldy, const float *x,
                      int64_t ldx, const float *w, int64_t ldw, int64_t k, const float *bias)
{
    vec sum[4][4];
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int o = 0; o < columns; o++)
            sum[m][o] = splat(0);
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        vec right[4];
#pragma GCC unroll 4
        for (int o = 0; o < columns; o++)
            right[o] = load(w + o * ldw + i);
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++) {
            vec left = load(x + m * ldx + i);
#pragma GCC unroll 4
            for (int o = 0; o < columns; o++)
                sum[m][o] += left * right[o];
        }
    }
    for (int m = 0; m < rows; m++)
        for (int o = 0; o < columns; o++) {
            float s = sum_lanes(sum[m][o]);
            for (int64_t j = i; j < k; j++)
                s += x[m * ldx + j] * w[o * ldw + j];
            y[m * ldy + o] = s + (bias ? bias[o] : 0);
        }
}

static void dot(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, const float *w,
                int64_t ldw, int columns, int64_t k, const float *bias)
{
    for (int o = 0; o < columns; o += 4) {
        const float *wo = w + o * ldw, *b = bias ? bias + o : NULL;
        int few = columns - o < 4 ? columns - o : 4;
        for (int m = 0; m < rows;) {
            const float *xm = x + m * ldx;
            float *ym = y + m * ldy + o;
            if (few == 4 && rows - m >= 4) {
                dot_block(4, 4, ym, ldy, xm, ldx, wo, ldw, k, b);
                m += 4;
            } else if (few == 4) {
                dot_block(1, 4, ym, ldy, xm, ldx, wo, ldw, k, b);
                m++;
            } else {
                for (int i = 0; i < few; i++)
                    dot_block(1, 1, ym + i, ldy, xm, ldx, wo + i * ldw, ldw, k, b ? b + i : NULL);
                m++;
            }
        }
    }
}

/* The one-dimensional transforms of F(4, 3) at the points 0, 1, -1, 2, -2, infinity. */
INLINE void input_transform(vec y[6], const vec d[6])
{
    vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    vec c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
    y[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + e;
    y[4] = c - e;
    y[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

INLINE void weight_transform(vec y[6], vec g0, vec g1, vec g2)
{
    vec a = (g0 + g2) * (-1.0f / 6), b = g1 * (1.0f / 6);
    vec c = g0 * (1.0f / 24) + g2 * (1.0f / 6), e = g1 * (1.0f / 12);
    y[0] = g0 * 0.25f;
    y[1] = a - b;
    y[2] = a + b;
    y[3] = c + e;
    y[4] = c - e;
    y[5] = g2;
}

INLINE void output_transform(vec y[4], const vec m[6])
{
    vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = b + 2.0f * e;
    y[2] = a + 4.0f * c;
    y[3] = b + 8.0f * e + m[5];
}

static void winograd_input(float *dst, int64_t stride, const float *const *pixels, int64_t channels)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec rows[6][6], columns[6][6];
        for (int i = 0; i < 6; i++) {
            vec d[6];
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                d[j] = some == LANES ? load(pixels[i * 6 + j] + c)
                                     : load_some(pixels[i * 6 + j] + c, some);
            input_transform(rows[i], d);
        }
        for (int j = 0; j < 6; j++) {
            vec d[6], y[6];
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                d[i] = rows[i][j];
            input_transform(y, d);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                columns[i][j] = y[i];
        }
        for (int p = 0; p < 36; p++) {
            if (some == LANES)
                store(dst + p * stride + c, columns[p / 6][p % 6]);
            else
                memcpy(dst + p * stride + c, &columns[p / 6][p % 6], (size_t)some * 4);
        }
    }
}

static void winograd_weight(float *u, int64_t stride, int width, const float *g, int64_t channels)
{
    for (int64_t c = 0; c < channels; c++, g += 9 * LANES) {
        vec rows[3][6];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            weight_transform(rows[i], load(g + (i * 3) * LANES), load(g + (i * 3 + 1) * LANES),
                             load(g + (i * 3 + 2) * LANES));
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            vec y[6];
            weight_transform(y, rows[0][j], rows[1][j], rows[2][j]);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                store(u + (i * 6 + j) * stride + c * width, y[i]);
        }
    }
}

static void winograd_output(float *const *pixels, const float *m, int64_t stride, int64_t channels,
                            const float *bias)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec rows[6][4];
        vec start = !bias ? splat(0) : some == LANES ? load(bias + c) : load_some(bias + c, some);
        for (int i = 0; i < 6; i++) {
            vec d[6];
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                d[j] = load(m + (i * 6 + j) * stride + c);
            output_transform(rows[i], d);
        }
        for (int j = 0; j < 4; j++) {
            vec d[6], y[4];
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                d[i] = rows[i][j];
            output_transform(y, d);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float *pixel = pixels[i * 4 + j];
                vec v = y[i] + start;
                if (pixel && some == LANES)
                    store(pixel + c, v);
                else if (pixel)
                    memcpy(pixel + c, &v, (size_t)some * 4);
            }
        }
    }
}

/* Transposes of output_transform and weight_transform. */
INLINE void output_transform_backward(vec m[6], const vec y[4])
{
    vec even = y[0] + y[2], odd = y[1] + y[3];
    vec even2 = y[0] + 4.0f * y[2], odd2 = 2.0f * y[1] + 8.0f * y[3];
    m[0] = y[0];
    m[1] = even + odd;
    m[2] = even - odd;
    m[3] = even2 + odd2;
    m[4] = even2 - odd2;
    m[5] = y[3];
}

INLINE void weight_transform_backward(vec g[3], const vec u[6])
{
    vec a = (u[1] + u[2]) * (1.0f / 6), b = u[3] + u[4];
    g[0] = u[0] * 0.25f - a + b * (1.0f / 24);
    g[1] = (u[2] - u[1]) * (1.0f / 6) + (u[3] - u[4]) * (1.0f / 12);
    g[2] = b * (1.0f / 6) - a + u[5];
}

static void winograd_output_backward(float *dst, int64_t stride, const float *const *pixels,
                                     int64_t channels)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec rows[4][6];
        for (int i = 0; i < 4; i++) {
            vec y[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const float *pixel = pixels[i * 4 + j];
                y[j] = !pixel          ? splat(0)
                       : some == LANES ? load(pixel + c)
                                       : load_some(pixel + c, some);
            }
            output_transform_backward(rows[i], y);
        }
        for (int j = 0; j < 6; j++) {
            vec y[4], m[6];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                y[i] = rows[i][j];
            output_transform_backward(m, y);
            for (int i = 0; i < 6; i++) {
                if (some == LANES)
                    store(dst + (i * 6 + j) * stride + c, m[i]);
                else
                    memcpy(dst + (i * 6 + j) * stride + c, &m[i], (size_t)some * 4);
            }
        }
    }
}

static void winograd_weight_backward(float *g, const float *u, int64_t stride)
{
    vec rows[6][3];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        vec d[6];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            d[j] = load(u + (i * 6 + j) * stride);
        weight_transform_backward(rows[i], d);
    }
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        vec d[6], y[3];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            d[i] = rows[i][j];
        weight_transform_backward(y, d);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            store(g + (i * 3 + j) * LANES, y[i]);
    }
}

static void moments(const float *x, int64_t n, float center, double *sum, double *sum_squares)
{
    double s = 0, q = 0;
    /* Blocks short enough that float partial sums keep their digits. */
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n, i = begin;
        vec s0 = splat(0), s1 = splat(0), q0 = splat(0), q1 = splat(0), mid = splat(center);
        for (; i + 2 * LANES <= end; i += 2 * LANES) {
            vec a = load(x + i) - mid, b = load(x + i + LANES) - mid;
            s0 += a;
            s1 += b;
            q0 += a * a;
            q1 += b * b;
        }
        s0 += s1;
        q0 += q1;
        for (int j = 0; j < LANES; j++) {
            s += s0[j];
            q += q0[j];
        }
        for (; i < end; i++) {
            double d = (double)x[i] - center;
            s += d;
            q += d * d;
        }
    }
    *sum = s;
    *sum_squares = q;
}

static void channel_moments(const float *x, int64_t pixels, int64_t c, const float *center,
                            double *sum, double *sum_squares)
{
    for (int64_t begin = 0; begin < pixels; begin += 256) {
        int64_t end = begin + 256 < pixels ? begin + 256 : pixels;
        for (int64_t i = 0; i < c; i += LANES) {
            int64_t some = c - i < LANES ? c - i : LANES;
            vec mid = load_some(center + i, some), s = splat(0), q = splat(0);
            for (int64_t p = begin; p < end; p++) {
                const float *pixel = x + p * c + i;
                vec difference = (some == LANES ? load(pixel) : load_some(pixel, some)) - mid;
                s += difference;
                q += difference * difference;
            }
            for (int64_t j = 0; j < some; j++) {
                sum[i + j] += s[j];
                sum_squares[i + j] += q[j];
            }
        }
    }
}

INLINE void normalize_of(float *y, const float *x, const float *center, const float *scale,
                         const float *shift, int64_t n, const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i,
              activate((load(x + i) - load(center + i)) * load(scale + i) + load(shift + i), act));
    if (i < n) {
        int64_t some = n - i;
        vec difference = load_some(x + i, some) - load_some(center + i, some);
        vec v = activate(difference * load_some(scale + i, some) + load_some(shift + i, some), act);
        memcpy(y + i, &v, (size_t)some * 4);
    }
}

static void normalize(float *y, const float *x, const float *center, const float *scale,
                      const float *shift, int64_t n, enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_GELU);
        break;
    }
}

/* act'(z) * dy */
INLINE vec activate_backward(vec z, vec dy, const enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_RELU:
        return select(z <= 0, splat(0), dy);
    case ACTIVATION_SILU: {
        vec s = 1.0f / (1.0f + exp_vec(-z));
        return dy * (s + z * s * (1.0f - s));
    }
    case ACTIVATION_GELU: {
        vec cdf = 0.5f * (1.0f + erf_vec(z * 0.70710678118654752f));
        return dy * (cdf + z * exp_vec(-0.5f * z * z) * 0.39894228040143268f);
    }
    default:
        return dy;
    }
}

INLINE void normalize_sums_of(const float *x, const float *dy, int64_t pixels, int64_t c,
                              const float *center, const float *scale, const float *shift,
                              const enum activation_kind act, double *p, double *q)
{
    for (int64_t begin = 0; begin < pixels; begin += 256) {
        int64_t end = begin + 256 < pixels ? begin + 256 : pixels;
        for (int64_t i = 0; i < c; i += LANES) {
            int64_t some = c - i < LANES ? c - i : LANES;
            vec mid = load_some(center + i, some), factor = load_some(scale + i, some);
            vec offset = load_some(shift + i, some), sp = splat(0), sq = splat(0);
            for (int64_t n = begin; n < end; n++) {
                int64_t at = n * c + i;
                bool whole = some == LANES;
                vec difference = (whole ? load(x + at) : load_some(x + at, some)) - mid;
                vec dz = whole ? load(dy + at) : load_some(dy + at, some);
                dz = activate_backward(difference * factor + offset, dz, act);
                sp += dz;
                sq += dz * difference;
            }
            for (int64_t j = 0; j < some; j++) {
                p[i + j] += sp[j];
                q[i + j] += sq[j];
            }
        }
    }
}

static void normalize_sums(const float *x, const float *dy, int64_t pixels, int64_t c,
                           const float *center, const float *scale, const float *shift,
                           enum activation_kind act, double *p, double *q)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_NONE, p, q);
        break;
    case ACTIVATION_RELU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_RELU, p, q);
        break;
    case ACTIVATION_SILU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_SILU, p, q);
        break;
    case ACTIVATION_GELU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_GELU, p, q);
        break;
    }
}

INLINE void normalize_backward_of(float *dx, const float *x, const float *dy, const float *center,
                                  const float *scale, const float *shift, const float *by_dz,
                                  const float *constant, const float *by_x, int64_t n,
                                  const enum activation_kind act)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t some = n - i < LANES ? n - i : LANES;
        if (some == LANES) {
            vec difference = load(x + i) - load(center + i);
            vec dz = activate_backward(difference * load(scale + i) + load(shift + i), load(dy + i),
                                       act);
            store(dx + i, dz * load(by_dz + i) - load(constant + i) - difference * load(by_x + i));
        } else {
            vec difference = load_some(x + i, some) - load_some(center + i, some);
            vec z = difference * load_some(scale + i, some) + load_some(shift + i, some);
            vec dz = activate_backward(z, load_some(dy + i, some), act);
            vec v = dz * load_some(by_dz + i, some) - load_some(constant + i, some) -
                    difference * load_some(by_x + i, some);
            memcpy(dx + i, &v, (size_t)some * 4);
        }
    }
}

static void normalize_backward(float *dx, const float *x, const float *dy, const float *center,
                               const float *scale, const float *shift, const float *by_dz,
                               const float *constant, const float *by_x, int64_t n,
                               enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_GELU);
        break;
    }
}

static void normalize_row(float *y, const float *x, float center, float scale, float shift,
                          const float *gamma, const float *beta, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = ((x[i] - center) * scale + shift) * gamma[i] + beta[i];
}

INLINE void activation_of(float *y, const float *x, int64_t n, const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, activate(load(x + i), act));
    if (i < n) {
        vec v = activate(load_some(x + i, n - i), act);
        memcpy(y + i, &v, (size_t)(n - i) * 4);
    }
}

static void activation_all(float *y, const float *x, int64_t n, enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        activation_of(y, x, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        activation_of(y, x, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        activation_of(y, x, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        activation_of(y, x, n, ACTIVATION_GELU);
        break;
    }
}

INLINE void activation_backward_of(float *dx, const float *x, const float *dy, int64_t n,
                                   const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dx + i, activate_backward(load(x + i), load(dy + i), act));
    if (i < n) {
        vec v = activate_backward(load_some(x + i, n - i), load_some(dy + i, n - i), act);
        memcpy(dx + i, &v, (size_t)(n - i) * 4);
    }
}

static void activation_backward_all(float *dx, const float *x, const float *dy, int64_t n,
                                    enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        activation_backward_of(dx, x, dy, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_GELU);
        break;
    }
}

static void softmax(float *x, int64_t n, float scale)
{
    int64_t i = 0;
    float top = x[0];
    vec tops = splat(x[0]);
    for (; i + LANES <= n; i += LANES)
        tops = maximum(load(x + i), tops);
    for (int j = 0; j < LANES; j++)
        top = tops[j] > top ? tops[j] : top;
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    vec sums = splat(0), most = splat(top * scale);
    for (i = 0; i + LANES <= n; i += LANES) {
        vec e = exp_vec(load(x + i) * scale - most);
        store(x + i, e);
        sums += e;
    }
    float sum = sum_lanes(sums);
    for (; i < n; i++) {
        x[i] = expf(x[i] * scale - top * scale);
        sum += x[i];
    }
    float inverse = 1.0f / sum;
    for (i = 0; i < n; i++)
        x[i] *= inverse;
}

static void softmax_backward(float *dp, const float *p, int64_t n, float scale)
{
    vec sums = splat(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums += load(dp + i) * load(p + i);
    float sum = sum_lanes(sums);
    for (; i < n; i++)
        sum += dp[i] * p[i];
    for (i = 0; i < n; i++)
        dp[i] = p[i] * (dp[i] - sum) * scale;
}

/* torch.optim.AdamW's order of operations. */
static void adamw(const struct adamw_args *a, int64_t begin, int64_t end)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    const float gradient_scale = (float)a->gradient_scale;
    const float keep = (float)(1 - a->learning_rate * a->weight_decay);
    const float beta1 = (float)a->beta1, rest1 = (float)(1 - a->beta1);
    const float beta2 = (float)a->beta2, rest2 = (float)(1 - a->beta2);
    const float step_size = (float)(a->learning_rate / correction1);
    const float root2 = (float)sqrt(correction2), epsilon = (float)a->epsilon;
    const float decay = (float)a->ema_decay, fresh = (float)(1 - a->ema_decay);
    float *restrict p = a->parameter, *restrict m = a->m, *restrict v = a->v;
    float *restrict ema = a->ema;
    const float *restrict g = a->gradient;
    for (int64_t i = begin; i < end; i++) {
        float gradient = g[i] * gradient_scale;
        float first = m[i] * beta1 + gradient * rest1;
        float second = v[i] * beta2 + gradient * gradient * rest2;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * keep - step_size * (first / (__builtin_sqrtf(second) / root2 + epsilon));
    }
    if (ema)
        for (int64_t i = begin; i < end; i++)
            ema[i] = ema[i] * decay + p[i] * fresh;
}

static double sum_squares(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n, i = begin;
        vec s = splat(0);
        for (; i + LANES <= end; i += LANES)
            s += load(x + i) * load(x + i);
        float rest = 0;
        for (; i < end; i++)
            rest += x[i] * x[i];
        for (int j = 0; j < LANES; j++)
            sum += s[j];
        sum += rest;
    }
    return sum;
}

static void add_all(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void combine(float *y, int count, const float *const *x, const float *coefficients,
                    int64_t n)
{
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n;
        for (int64_t i = begin; i < end; i++)
            y[i] = coefficients[0] * x[0][i];
        for (int j = 1; j < count; j++)
            for (int64_t i = begin; i < end; i++)
                y[i] += coefficients[j] * x[j][i];
    }
}

#define JOIN(a, b)  a##b
#define TABLE(isa)  JOIN(cpu_isa_, isa)
#define TEXT(isa)   #isa
#define QUOTED(isa) TEXT(isa)
const struct cpu_isa TABLE(ISA) = {
    .name = QUOTED(ISA),
    .lanes = LANES,
    .rows = ROWS,
    .vectors = VECTORS,
    .tile = tile,
    .tile_strided = tile_strided,
    .pack = pack,
    .dot = dot,
    .winograd_input = winograd_input,
    .winograd_weight = winograd_weight,
    .winograd_output = winograd_output,
    .winograd_output_backward = winograd_output_backward,
    .winograd_weight_backward = winograd_weight_backward,
    .moments = moments,
    .channel_moments = channel_moments,
    .normalize = normalize,
    .normalize_row = normalize_row,
    .normalize_sums = normalize_sums,
    .normalize_backward = normalize_backward,
    .activation = activation_all,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .activation_backward = activation_backward_all,
    .adamw = adamw,
    .sum_squares = sum_squares,
    .add = add_all,
    .combine = combine,
};
