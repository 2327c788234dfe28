#ifndef CCLD_BASE_PHILOX_H
#define CCLD_BASE_PHILOX_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Random words and normals that are bit-identical everywhere: C compilers (without FMA contraction)
 * and nvcc compile the same code. It uses only operations that IEEE 754 defines exactly: no libm.
 */
#ifdef __CUDACC__
#define PHILOX_INLINE static __device__ __forceinline__
#define PHILOX_ADD    __dadd_rn
#define PHILOX_MUL    __dmul_rn
#define PHILOX_FMUL   __fmul_rn
#define PHILOX_SQRT   __fsqrt_rn
#else
#define PHILOX_INLINE     static inline
#define PHILOX_ADD(x, y)  ((x) + (y))
#define PHILOX_MUL(x, y)  ((x) * (y))
#define PHILOX_FMUL(x, y) ((x) * (y))
#define PHILOX_SQRT       sqrtf
#endif

/* Philox4x32-10 (rng.h). */
PHILOX_INLINE void philox_words(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * UINT32_C(0xD2511F53);
        uint64_t p1 = (uint64_t)c2 * UINT32_C(0xCD9E8D57);
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* ln u of a normal number u > 0, with a relative error of 2e-12: u = 2^e m with m in (0.7, 1.42),
 * and ln m = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1) / (m + 1). */
PHILOX_INLINE double philox_log(float u)
{
    uint32_t bits;
    memcpy(&bits, &u, sizeof bits);
    int exponent = (int)(bits >> 23) - 127;
    bits = (bits & UINT32_C(0x7FFFFF)) | UINT32_C(0x3F800000);
    float mantissa;
    memcpy(&mantissa, &bits, sizeof mantissa);
    double m = (double)mantissa;
    if (m > 1.4142135623730951) {
        m = PHILOX_MUL(m, 0.5);
        exponent++;
    }
    double s = PHILOX_ADD(m, -1.0) / PHILOX_ADD(m, 1.0);
    double s2 = PHILOX_MUL(s, s), sum = 1.0 / 15;
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 13);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 11);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 9);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 7);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 5);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0 / 3);
    sum = PHILOX_ADD(PHILOX_MUL(sum, s2), 1.0);
    double of_mantissa = PHILOX_MUL(PHILOX_ADD(s, s), sum);
    return PHILOX_ADD(PHILOX_MUL((double)exponent, 0.69314718055994531), of_mantissa);
}

/* Sine and cosine of an angle in [0, 7], to 1e-12: Taylor series within an eighth of a turn of the
 * nearest quarter turn. */
PHILOX_INLINE void philox_sincos(double angle, double *sine, double *cosine)
{
    int quarter = (int)PHILOX_ADD(PHILOX_MUL(angle, 0.63661977236758134), 0.5);
    double r = PHILOX_ADD(angle, -PHILOX_MUL((double)quarter, 1.5707963267948966));
    double r2 = PHILOX_MUL(r, r), s = 1.0 / 6227020800, c = 1.0 / 479001600;
    s = PHILOX_ADD(PHILOX_MUL(s, r2), -1.0 / 39916800);
    s = PHILOX_ADD(PHILOX_MUL(s, r2), 1.0 / 362880);
    s = PHILOX_ADD(PHILOX_MUL(s, r2), -1.0 / 5040);
    s = PHILOX_ADD(PHILOX_MUL(s, r2), 1.0 / 120);
    s = PHILOX_ADD(PHILOX_MUL(s, r2), -1.0 / 6);
    s = PHILOX_ADD(PHILOX_MUL(s, r2), 1.0);
    s = PHILOX_MUL(s, r);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), -1.0 / 3628800);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), 1.0 / 40320);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), -1.0 / 720);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), 1.0 / 24);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), -0.5);
    c = PHILOX_ADD(PHILOX_MUL(c, r2), 1.0);
    double sine_of = quarter & 1 ? c : s, cosine_of = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -sine_of : sine_of;
    *cosine = (quarter + 1) & 2 ? -cosine_of : cosine_of;
}

/* Converts two words to two normals, rounding to float as cuRAND's Box-Muller does: u = (x + 1/2) /
 * 2^32, angle (y + 1/2) 2 pi / 2^32, both from words rounded to float first; the sine comes first.
 * u is never 0, so the largest magnitude is sqrt(66 ln 2). */
PHILOX_INLINE void philox_normals(float *first, float *second, uint32_t x, uint32_t y)
{
    const double turn = 0x1.921fb6p-30; /* 2.3283064e-10f * 6.2831855f */
    float u = (float)PHILOX_ADD(PHILOX_MUL((double)(float)x, 0x1p-32), 0x1p-33);
    float angle = (float)PHILOX_ADD(PHILOX_MUL((double)(float)y, turn), turn * 0.5);
    float radius = PHILOX_SQRT(-2.0f * (float)philox_log(u));
    double sine, cosine;
    philox_sincos((double)angle, &sine, &cosine);
    *first = PHILOX_FMUL((float)sine, radius);
    *second = PHILOX_FMUL((float)cosine, radius);
}

#endif
