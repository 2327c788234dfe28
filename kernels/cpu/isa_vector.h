/* Part of isa_template.h: vectors of LANES floats and functions on them. */

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef uint32_t uvec __attribute__((vector_size(LANES * 4)));
/* Aligned like the elements of a weight, which may be of 16 bits. */
typedef float loose_vec __attribute__((vector_size(LANES * 4), aligned(2), may_alias));

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

INLINE vec choose(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

INLINE vec maximum(vec a, vec b)
{
    return choose(a > b, a, b);
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
    x = choose(x > high, high, choose(under, low, x));
    vec scaled = x * 1.44269504088896341f;
    ivec n = __builtin_convertvector(scaled + choose(scaled < 0, splat(-0.5f), splat(0.5f)), ivec);
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
    return choose(under, splat(0), p * power);
}

/* erf. Abramowitz and Stegun 7.1.26 is too coarse for float; this is a rational approximation on
 * |x| <= 4 (odd numerator over even denominator, from the same minimax family as Eigen's), within
 * 3e-7 of the exact value. */
INLINE vec erf_vec(vec x)
{
    const vec limit = splat(4.0f);
    x = choose(x > limit, limit, choose(x < -limit, -limit, x));
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
        return choose(x < 0, splat(0), x); /* NaN stays NaN */
    case ACTIVATION_SILU:
        return x / (1.0f + exp_vec(-x));
    case ACTIVATION_GELU:
        return 0.5f * x * (1.0f + erf_vec(x * 0.70710678118654752f));
    case ACTIVATION_LEAKY_RELU:
        return choose(x < 0, x * LEAKY_RELU_SLOPE, x);
    default:
        return x;
    }
}
