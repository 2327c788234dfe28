#include "tests/support/draws.h"

#include <stddef.h>

const char *const split_names[] = {"train", "holdout", "both", NULL};

float draw_between(struct draws *d, float low, float high)
{
    float u;
    rng_uniform(&u, 1, d->seed, d->purpose, (uint32_t)d->split, d->index, d->next++);
    return low + (high - low) * u;
}

int draw_one_of(struct draws *d, int n)
{
    int i = (int)draw_between(d, 0, (float)n);
    return i < n ? i : n - 1;
}

bool draw_chance(struct draws *d, float probability)
{
    return draw_between(d, 0, 1) < probability;
}
