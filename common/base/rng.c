#include "common/base/rng.h"

#include <string.h>

#include "common/base/message.h"
#include "common/base/philox.h"

void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    philox_words(out, counter, key);
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
        philox_normals(&out[i], &unused, words[0], words[1]);
    }
}

/* Purpose in the upper 6 bits, step in the lower 26. Purposes are never 0, so these counters never
 * coincide with those of rng_torch_normal. */
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
    philox_normals(&out[0], &out[1], words[0], words[1]);
    philox_normals(&out[2], &out[3], words[2], words[3]);
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
