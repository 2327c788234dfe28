#include "tests/support/synth.h"

#include <math.h>
#include <string.h>

#define GOLDEN_GAMMA UINT64_C(0x9E3779B97F4A7C15)

void synth_uniform(float *out, size_t n, const char *name, uint64_t seed)
{
    uint64_t base = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        base = (base ^ *c) * UINT64_C(0x100000001b3);
    base += seed * GOLDEN_GAMMA;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = base + (i + 1) * GOLDEN_GAMMA;
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        z ^= z >> 31;
        out[i] = (float)((double)(z >> 40) * 0x1p-23 - 1.0);
    }
}

void synth_weight(float *out, const char *name, int ndim, const int64_t *shape, uint64_t seed)
{
    size_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= (size_t)shape[i];
    synth_uniform(out, n, name, seed);
    size_t length = strlen(name);
    if (ndim >= 2) {
        double fan_in = (double)n / (double)shape[0];
        float scale = (float)sqrt(3.0 / fan_in);
        for (size_t i = 0; i < n; i++)
            out[i] *= scale;
    } else if (length >= 7 && !strcmp(name + length - 7, ".weight")) {
        for (size_t i = 0; i < n; i++)
            out[i] = 1.0f + 0.1f * out[i];
    } else {
        for (size_t i = 0; i < n; i++)
            out[i] *= 0.1f;
    }
}

void synth_data(float *out, size_t n, const char *name, uint64_t seed, double scale)
{
    synth_uniform(out, n, name, seed);
    for (size_t i = 0; i < n; i++)
        out[i] *= (float)scale;
}
