#ifndef CCLD_BASE_RNG_H
#define CCLD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): every draw
 * is a pure function of what it is for, so it is the same on any backend, for any batch split and
 * any number of devices. */
void philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Starting noise of `--seed S`, equal to torch.randn on a CUDA generator: element i is the first
 * Box-Muller normal of key S, subsequence i, offset 0. Fills out[0..n) with elements
 * first .. first+n of the flattened [n,4,h,w] noise. */
void rng_torch_normal(float *out, size_t n, uint64_t seed, uint64_t first);

/* What a stream of draws is for; numbers are part of the file formats' promise, never reused. */
enum rng_purpose {
    RNG_SAMPLER_NOISE = 1, /* noise added by DDIM with eta > 0, DDPM; step = call index */
    RNG_POSTERIOR = 2,     /* sampling the autoencoder's posterior */
    RNG_TRAINING_NOISE = 3,
    RNG_UNCONDITIONAL = 4, /* which embeds are zeroed */
    RNG_TIME = 5,          /* scramble of the Sobol sequence; step = bit */
    RNG_INITIAL_WEIGHTS = 6,
    RNG_HOLDOUT_POSTERIOR = 7, /* what held-out images are judged with, at every step the same */
    RNG_HOLDOUT_NOISE = 8,
    RNG_HOLDOUT_TIME = 9,      /* as RNG_TIME */
    RNG_SHUFFLE = 10,          /* order of an epoch's records */
    RNG_HOLDOUT = 11,          /* which records are held out */
    RNG_SHAPES = 12,           /* scenes of the generated pictures; step = split, sample = index */
    RNG_FLIP = 13,             /* which pictures are mirrored in training */
    RNG_EMBED_NOISE = 14,      /* what is added to embeds in training */
    RNG_PROMPT_NOISE = 15,     /* and to prompts' in sampling; sample = image index */
    RNG_EMBED_NEIGHBOURS = 16, /* with how many neighbours embeds are mixed in training */
};

/* Block number `block` of a stream, four words: Philox of key `seed` and counter (block, purpose
 * and step, sample low, sample high). step is below 2^26. */
void rng_words(uint32_t out[4], uint64_t seed, enum rng_purpose purpose, uint32_t step,
               uint64_t sample, uint32_t block);

/* n standard normals: element first+j of sample `sample` at step `step`. Block element / 4 makes
 * four of them. */
void rng_normal(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                uint64_t sample, uint64_t first);
/* The same for uniform floats in [0, 1), multiples of 2^-24. */
void rng_uniform(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                 uint64_t sample, uint64_t first);

#endif
