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
};

/* n standard normals: element first+j of sample `sample` at step `step`. Counter: (element / 4,
 * purpose and step, sample low, sample high); each block of four words makes four normals. */
void rng_normal(float *out, size_t n, uint64_t seed, enum rng_purpose purpose, uint32_t step,
                uint64_t sample, uint64_t first);

#endif
