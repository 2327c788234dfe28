#include "common/diffusion/embed_noise.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

static double square_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

void embed_noise(float *embed, int64_t width, double amount, uint64_t seed,
                 enum rng_purpose purpose, uint32_t step, uint64_t sample, uint64_t first)
{
    if (amount == 0)
        return;
    float *noise = xmalloc((size_t)width * sizeof *noise);
    rng_normal(noise, (size_t)width, seed, purpose, step, sample, first);
    double length = square_of(embed, width), drawn = square_of(noise, width), sum = 0;
    double scale = drawn > 0 ? amount * sqrt(length / drawn) : 0;
    for (int64_t i = 0; i < width; i++) {
        double x = embed[i] + scale * noise[i];
        sum += x * x;
    }
    double back = sum > 0 ? sqrt(length / sum) : 0;
    for (int64_t i = 0; i < width; i++)
        embed[i] = (float)(back * (embed[i] + scale * noise[i]));
    free(noise);
}
