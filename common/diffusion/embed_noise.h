#ifndef CCLD_DIFFUSION_EMBED_NOISE_H
#define CCLD_DIFFUSION_EMBED_NOISE_H

#include <stdint.h>

#include "common/base/rng.h"

/* CLOOB embeds a text near, but not among, the images that it describes. A network trained on image
 * embeddings with noise accepts a text embedding as one of them; with noise in sampling, images of
 * one text vary in what the text leaves open.
 *
 * Adds a random direction, scaled to `amount` times the length of embed[0 .. width), and rescales
 * the sum to the original length: the fixed perturbation of Zhou et al., "Towards language-free
 * training for text-to-image generation", CVPR 2022. The direction comes from normals first ..
 * first + width - 1 of the stream (seed, purpose, step, sample). amount 0 changes nothing. */
void embed_noise(float *embed, int64_t width, double amount, uint64_t seed,
                 enum rng_purpose purpose, uint32_t step, uint64_t sample, uint64_t first);

#endif
