#ifndef CCLD_DIFFUSION_EMBED_NOISE_H
#define CCLD_DIFFUSION_EMBED_NOISE_H

#include <stdint.h>

#include "common/base/rng.h"

/* The embeds of texts lie beside those of pictures of the same. A network that is trained on
 * pictures' embeds with noise takes a text's for one of them; sampled with noise, it makes of one
 * text what pictures of it differ in.
 *
 * Adds to embed[0 .. width) a random direction times `amount` times its length, and gives it its
 * length back: the fixed perturbation of Zhou et al., "Towards language-free training for
 * text-to-image generation", CVPR 2022. The direction is that of normals `first` to first + width
 * of the stream (seed, purpose, step, sample). amount 0: the embed stays. */
void embed_noise(float *embed, int64_t width, double amount, uint64_t seed,
                 enum rng_purpose purpose, uint32_t step, uint64_t sample, uint64_t first);

#endif
