#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/philox.h"
#include "common/base/rng.h"
#include "tests/support/tap.h"

/* Known answers from Random123's kat_vectors for philox4x32 with 10 rounds. */
static void test_known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox4x32_10(out, known[i].counter, known[i].key);
        tap_ok(!memcmp(out, known[i].expected, sizeof out), "known answer %zu", i);
    }
}

enum { N = 200003 };

static void check_moments(const float *x, size_t n, const char *what)
{
    double sum[5] = {0}, lag = 0;
    for (size_t i = 0; i < n; i++)
        for (int k = 1; k < 5; k++)
            sum[k] += pow(x[i], k) / (double)n;
    for (size_t i = 1; i < n; i++)
        lag += (double)x[i] * x[i - 1] / (double)n;
    double unit = 1 / sqrt((double)n); /* bounds are five standard errors */
    tap_ok(fabs(sum[1]) <= 5 * unit && fabs(sum[2] - 1) <= 5 * sqrt(2) * unit &&
               fabs(sum[3]) <= 5 * sqrt(15) * unit && fabs(sum[4] - 3) <= 5 * sqrt(96) * unit &&
               fabs(lag) <= 5 * unit,
           "%s: normal in four moments, neighbors uncorrelated (%.4f %.4f %.4f %.4f, %.4f)", what,
           sum[1], sum[2], sum[3], sum[4], lag);
}

/* Any range of elements equals that part of a longer range. */
static void test_ranges(const float *all)
{
    float part[64];
    bool same = true;
    for (size_t first = 0; first < 9; first++)
        for (size_t n = 0; n < 9; n++) {
            part[n] = 77;
            rng_normal(part, n, 5, RNG_POSTERIOR, 3, 1, first);
            same = same && !memcmp(part, all + first, n * sizeof *part) && part[n] == 77;
        }
    rng_normal(part, 50, 5, RNG_POSTERIOR, 3, 1, N - 50);
    tap_ok(same && !memcmp(part, all + N - 50, 50 * sizeof *part), "ranges of a stream");
    float a[6], b[6];
    rng_torch_normal(a, 6, 9, UINT64_C(0xFFFFFFFD));
    rng_torch_normal(b, 3, 9, UINT64_C(0x100000000));
    tap_ok(!memcmp(a + 3, b, sizeof b / 2), "ranges beyond 2^32");
}

static bool differs(const float *all, uint64_t seed, enum rng_purpose p, uint32_t step, uint64_t s)
{
    float part[16];
    rng_normal(part, 16, seed, p, step, s, 0);
    return memcmp(part, all, sizeof part) != 0;
}

static void test_streams(const float *all)
{
    tap_ok(!differs(all, 5, RNG_POSTERIOR, 3, 1), "the same stream repeats");
    tap_ok(differs(all, 6, RNG_POSTERIOR, 3, 1) &&
               differs(all, 5 + (UINT64_C(1) << 32), RNG_POSTERIOR, 3, 1),
           "another seed");
    tap_ok(differs(all, 5, RNG_SAMPLER_NOISE, 3, 1), "a different purpose");
    tap_ok(differs(all, 5, RNG_POSTERIOR, 4, 1) && differs(all, 5, RNG_POSTERIOR, 3 + (1 << 25), 1),
           "another step");
    tap_ok(differs(all, 5, RNG_POSTERIOR, 3, 2) &&
               differs(all, 5, RNG_POSTERIOR, 3, 1 + (UINT64_C(1) << 32)),
           "a different sample");
}

static void test_uniform(float *x)
{
    double mean = 0, squares = 0;
    bool inside = true, whole = true;
    rng_uniform(x, N, 5, RNG_UNCONDITIONAL, 3, 1, 0);
    for (size_t i = 0; i < N; i++) {
        mean += x[i] / (double)N;
        squares += (x[i] - 0.5) * (x[i] - 0.5) / (double)N;
        inside &= x[i] >= 0 && x[i] < 1;
        whole &= x[i] * 0x1p24f == floorf(x[i] * 0x1p24f);
    }
    tap_ok(inside && whole, "uniforms are multiples of 2^-24 in [0, 1)");
    tap_ok(fabs(mean - 0.5) < 5 * sqrt(1 / 12.0 / N), "their mean is %.5f", mean);
    tap_ok(fabs(squares * 12 - 1) < 0.02, "their variance is %.4f / 12", squares * 12);
    float part[50];
    rng_uniform(part, 50, 5, RNG_UNCONDITIONAL, 3, 1, 17);
    tap_ok(!memcmp(part, x + 17, sizeof part), "ranges of uniforms");
    uint32_t words[4];
    rng_words(words, 5, RNG_UNCONDITIONAL, 3, 1, 2);
    bool same = true;
    for (int i = 0; i < 4; i++)
        same &= x[8 + i] == (float)(words[i] >> 8) * 0x1p-24f;
    tap_ok(same, "block 2 of the stream is elements 8 to 11");
}

/* Every device and compiler produces these bits: they do not depend on libm. */
static void test_bits(const float *torch, const float *x)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < 2 * N; i++) {
        uint32_t bits;
        memcpy(&bits, i < N ? &torch[i] : &x[i - N], sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x100000001B3);
    }
    tap_ok(hash == UINT64_C(0xC21CC9AFC4399347), "the bits of %d normals: %016" PRIx64, 2 * N,
           hash);
}

/* The functions that normals are computed with, over their whole ranges. */
static void test_against_libm(void)
{
    double worst_log = 0, worst_sine = 0;
    for (uint32_t i = 0; i < 400000; i++) {
        float u = i < 200000 ? ((float)i * 21474.0f + 0.5f) * 0x1p-32f : 1 - (float)i * 0x1p-24f;
        float angle = (float)i * 1.5708e-5f;
        double sine, cosine, error = fabs(philox_log(u) - log(u)) / fabs(log(u));
        worst_log = error > worst_log ? error : worst_log;
        philox_sincos(angle, &sine, &cosine);
        error = fmax(fabs(sine - sin(angle)), fabs(cosine - cos(angle)));
        worst_sine = error > worst_sine ? error : worst_sine;
    }
    tap_ok(worst_log <= 1e-12 && worst_sine <= 1e-12, "logarithm to %.1g, sine and cosine to %.1g",
           worst_log, worst_sine);
    float first, second;
    philox_normals(&first, &second, 0, 0);
    tap_ok(fabs((double)second - sqrt(66 * log(2))) < 1e-6 && first >= 0 && first < 1e-7,
           "the largest normal is %.6f", (double)second);
    philox_normals(&first, &second, UINT32_MAX, UINT32_MAX);
    tap_ok(first == 0 && second == 0, "the smallest normal is 0");
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    float *x = xmalloc(N * sizeof *x), *torch = xmalloc(N * sizeof *torch);
    test_known_answers();
    rng_torch_normal(torch, N, 1, 0);
    check_moments(torch, N, "torch's normals");
    rng_normal(x, N, 5, RNG_POSTERIOR, 3, 1, 0);
    check_moments(x, N, "normals");
    test_ranges(x);
    test_streams(x);
    test_bits(torch, x);
    test_against_libm();
    test_uniform(x);
    free(x);
    free(torch);
    return tap_done();
}
