#include "tests/support/oklab.h"

#include <math.h>

static float linear(float srgb)
{
    return srgb <= 0.04045f ? srgb / 12.92f : powf((srgb + 0.055f) / 1.055f, 2.4f);
}

struct oklab oklab_from_srgb(const float rgb[3])
{
    static const float to_cones[3][3] = {{0.4122214708f, 0.5363325363f, 0.0514459929f},
                                         {0.2119034982f, 0.6806995451f, 0.1073969566f},
                                         {0.0883024619f, 0.2817188376f, 0.6299787005f}};
    static const float to_lab[3][3] = {{0.2104542553f, 0.7936177850f, -0.0040720468f},
                                       {1.9779984951f, -2.4285922050f, 0.4505937099f},
                                       {0.0259040371f, 0.7827717662f, -0.8086757660f}};
    float cones[3], lab[3] = {0};
    for (int i = 0; i < 3; i++) {
        float x = 0;
        for (int c = 0; c < 3; c++)
            x += to_cones[i][c] * linear(rgb[c]);
        cones[i] = cbrtf(x);
    }
    for (int i = 0; i < 3; i++)
        for (int c = 0; c < 3; c++)
            lab[i] += to_lab[i][c] * cones[c];
    return (struct oklab){lab[0], lab[1], lab[2]};
}

float oklab_distance(struct oklab x, struct oklab y)
{
    float l = x.l - y.l, a = x.a - y.a, b = x.b - y.b;
    return sqrtf(l * l + a * a + b * b);
}
