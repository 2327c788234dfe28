/* Scrambled Sobol elements: stratified, even, independent between seeds and purposes. */
#include <math.h>
#include <string.h>

#include "common/base/message.h"
#include "common/train/sobol.h"
#include "tests/support/tap.h"

/* Whether the 2^k indices from `first` have one element in each of 2^k equal intervals. */
static bool stratified(uint64_t seed, uint64_t first, int k)
{
    static bool seen[1 << 12];
    int64_t n = (int64_t)1 << k;
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < n; i++) {
        float t = sobol_scrambled(seed, RNG_TIME, first + (uint64_t)i);
        if (!(t >= 0 && t < 1))
            return false;
        int64_t at = (int64_t)(t * (float)n);
        if (seen[at])
            return false;
        seen[at] = true;
    }
    return true;
}

/* The largest difference over x between x and the fraction of elements below it. */
static double discrepancy(uint64_t seed, uint64_t first, int n)
{
    double worst = 0;
    for (int x = 0; x <= 1000; x++) {
        int below = 0;
        for (int i = 0; i < n; i++)
            below += sobol_scrambled(seed, RNG_TIME, first + (uint64_t)i) < x / 1000.0;
        worst = fmax(worst, fabs((double)below / n - x / 1000.0));
    }
    return worst;
}

int main(void)
{
    bool all = true;
    for (int k = 0; k <= 12; k++)
        for (uint64_t block = 0; block < 3; block++)
            all &= stratified(7, (block * 1001) << k, k);
    tap_ok(all, "aligned blocks of up to 4096 have one element in each interval");
    tap_ok(stratified(7, UINT64_C(1) << 40, 10), "so do blocks at large indices");

    double ours = discrepancy(3, 1000, 300);
    tap_ok(ours < 0.02, "discrepancy of 300 elements: %.4f (random: about 0.05)", ours);

    int same = 0;
    double mean = 0;
    for (uint64_t i = 0; i < 4096; i++) {
        float a = sobol_scrambled(1, RNG_TIME, i), b = sobol_scrambled(2, RNG_TIME, i);
        same += a == b;
        mean += a / 4096;
    }
    tap_ok(same < 5, "another seed gives another scramble (%d of 4096 equal)", same);
    tap_ok(fabs(mean - 0.5) < 2e-4, "mean %.5f", mean);

    tap_ok(sobol_scrambled(1, RNG_TIME, 5) != sobol_scrambled(1, RNG_HOLDOUT_TIME, 5),
           "held-out times have another scramble");
    tap_ok(sobol_scrambled(1, RNG_TIME, 5) != sobol_scrambled(1, RNG_TIME, 5 + (1 << 24)),
           "the next block of 2^24 has another scramble");

    /* With Owen's scramble, each element is uniform over seeds. */
    int quarter[4] = {0};
    for (uint64_t seed = 0; seed < 4000; seed++)
        quarter[(int)(4 * sobol_scrambled(seed, RNG_TIME, 12345))]++;
    bool even = true;
    for (int i = 0; i < 4; i++)
        even &= quarter[i] > 870 && quarter[i] < 1130; /* 1000 +- 4.7 standard deviations */
    tap_ok(even, "one element is uniform over seeds: %d %d %d %d", quarter[0], quarter[1],
           quarter[2], quarter[3]);
    return tap_done();
}
