#ifndef CCLD_TESTS_PAINT_H
#define CCLD_TESTS_PAINT_H

#include <math.h>
#include <stdint.h>

/* Colors and edges of drawn images. */
struct rgb {
    float r, g, b;
};

static inline float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static inline float smooth_step(float x)
{
    x = clamp(x, 0, 1);
    return x * x * (3 - 2 * x);
}

static inline struct rgb mix(struct rgb from, struct rgb to, float share)
{
    return (struct rgb){from.r + (to.r - from.r) * share, from.g + (to.g - from.g) * share,
                        from.b + (to.b - from.b) * share};
}

static inline struct rgb rgb_from_bytes(const uint8_t c[3])
{
    return (struct rgb){(float)c[0] / 255, (float)c[1] / 255, (float)c[2] / 255};
}

static inline uint8_t to_byte(float x)
{
    return (uint8_t)(255 * clamp(x, 0, 1) + 0.5f);
}

static inline void rgb_store(uint8_t out[3], struct rgb c)
{
    out[0] = to_byte(c.r);
    out[1] = to_byte(c.g);
    out[2] = to_byte(c.b);
}

#endif
