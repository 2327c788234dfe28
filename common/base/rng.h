#ifndef CCLD_BASE_RNG_H
#define CCLD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Every draw
 * is a pure function of its purpose, step and sample, so it is the same on every backend, for every
 * batch split and number of devices. */
void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Initial noise of `--seed S`, equal to torch.randn with a CUDA generator: element i is the first
 * Box-Muller normal of key S, subsequence i, offset 0. Fills out[0..n) with elements first ..
 * first + n - 1 of the flattened [n, 4, h, w] noise. */
void rng_torch_normal(float *out, size_t n, uint64_t seed, uint64_t first);

/* The purpose of a stream of draws. Reproducibility depends on the numbers: never change or reuse
 * one. */
enum rng_purpose {
    RNG_SAMPLER_NOISE = 1, /* added by DDPM and by DDIM with eta > 0; step = call index */
    RNG_POSTERIOR = 2,     /* sampling the autoencoder's posterior */
    RNG_TRAINING_NOISE = 3,
    RNG_UNCONDITIONAL = 4, /* which embeddings are zeroed */
    RNG_TIME = 5,          /* scramble of the Sobol sequence; step = bit */
    RNG_INITIAL_WEIGHTS = 6,
    RNG_HOLDOUT_POSTERIOR = 7, /* for held-out records, the same at every step */
    RNG_HOLDOUT_NOISE = 8,
    RNG_HOLDOUT_TIME = 9,      /* as RNG_TIME */
    RNG_SHUFFLE = 10,          /* order of an epoch's records */
    RNG_HOLDOUT = 11,          /* which records are held out */
    RNG_SHAPES = 12,           /* scenes of generated images; step = split, sample = index */
    RNG_FLIP = 13,             /* which training images are mirrored */
    RNG_EMBED_NOISE = 14,      /* added to embeddings in training */
    RNG_PROMPT_NOISE = 15,     /* added to prompts' embeddings in sampling; sample = image index */
    RNG_EMBED_NEIGHBOURS = 16, /* how many neighbors training embeddings are averaged with */
    RNG_THINGS = 17,           /* as RNG_SHAPES, of things */
};

/* Block number `block` of a stream, four words: Philox of key `seed` and counter (block, purpose
 * and step, sample low, sample high). step is below 2^26. */
void rng_words(uint32_t out[4], uint64_t seed, enum rng_purpose purpose, uint32_t step,
               uint64_t sample, uint32_t block);

/* Fills out with n standard normals, elements first .. first + n - 1 of the stream of `sample` at
 * `step`. Block i holds elements 4 i .. 4 i + 3. */
void rng_normal(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                uint64_t sample, uint64_t first);
/* The same for uniform floats in [0, 1), multiples of 2^-24. */
void rng_uniform(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                 uint64_t sample, uint64_t first);

#endif
