#include "common/base/rng.h"

#include <math.h>
#include <string.h>

#include "common/base/message.h"

void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
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

/* Two words to two normals with the float rounding of cuRAND's Box-Muller: u = (x + 1/2) / 2^32 and
 * the angle (y + 1/2) 2 pi / 2^32, both from words rounded to float first; sine comes first. u
 * never is 0, so that the largest magnitude is sqrt(66 ln 2). */
static void box_muller(float *first, float *second, uint32_t x, uint32_t y)
{
    const float turn = 2.3283064e-10f * 6.2831855f;
    float u = (float)((double)(float)x * 0x1p-32 + 0x1p-33);
    float angle = (float)((double)(float)y * turn + turn / 2);
    float radius = sqrtf(-2.0f * logf(u));
    *first = sinf(angle) * radius;
    *second = cosf(angle) * radius;
}

void rng_torch_normal(float *out, size_t n, uint64_t seed, uint64_t first)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (size_t i = 0; i < n; i++) {
        uint64_t subsequence = first + i;
        const uint32_t counter[4] = {0, 0, (uint32_t)subsequence, (uint32_t)(subsequence >> 32)};
        uint32_t words[4];
        float unused;
        philox4x32_10(words, counter, key);
        box_muller(&out[i], &unused, words[0], words[1]);
    }
}

/* Purpose in the upper 6 bits, step in the lower 26. Purposes are never 0, so that these counters
 * never meet those of rng_torch_normal. */
static uint32_t purpose_and_step(enum rng_purpose purpose, uint32_t step)
{
    CHECK((unsigned)purpose > 0 && (unsigned)purpose < 64 && step < UINT32_C(1) << 26);
    return (uint32_t)purpose << 26 | step;
}

void rng_words(uint32_t out[4], uint64_t seed, enum rng_purpose purpose, uint32_t step,
               uint64_t sample, uint32_t block)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {block, purpose_and_step(purpose, step), (uint32_t)sample,
                                 (uint32_t)(sample >> 32)};
    philox4x32_10(out, counter, key);
}

static void normals_of_words(float out[4], const uint32_t words[4])
{
    box_muller(&out[0], &out[1], words[0], words[1]);
    box_muller(&out[2], &out[3], words[2], words[3]);
}

static void uniforms_of_words(float out[4], const uint32_t words[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = (float)(words[i] >> 8) * 0x1p-24f;
}

static void draw(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                 uint64_t sample, uint64_t first, void (*convert)(float *, const uint32_t *))
{
    uint64_t block = first / 4;
    size_t skip = first % 4;
    CHECK((first + n + 3) / 4 <= UINT64_C(1) << 32);
    for (size_t done = 0; done < n; block++, skip = 0) {
        uint32_t words[4];
        float values[4];
        rng_words(words, seed, purpose, step, sample, (uint32_t)block);
        convert(values, words);
        size_t count = 4 - skip < n - done ? 4 - skip : n - done;
        memcpy(out + done, values + skip, count * sizeof *out);
        done += count;
    }
}

void rng_normal(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                uint64_t sample, uint64_t first)
{
    draw(out, n, seed, purpose, step, sample, first, normals_of_words);
}

void rng_uniform(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                 uint64_t sample, uint64_t first)
{
    draw(out, n, seed, purpose, step, sample, first, uniforms_of_words);
}
