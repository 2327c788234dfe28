#ifndef CCLD_DATA_EMBED_NEIGHBOURS_H
#define CCLD_DATA_EMBED_NEIGHBOURS_H

#include <stdint.h>

#include "common/data/latent_set.h"

/* The embedding of an unspecific prompt lies between those of all images that match it, where no
 * single image's embedding lies. A network trained on images with embeddings from such places
 * learns to draw one of the neighboring images instead of a mixture of them.
 *
 * Sheynin et al., "kNN-Diffusion: Image generation via large-scale retrieval", ICLR 2023, train on
 * embeddings of images and their nearest neighbors in place of captions. Here the network gets
 * their mean, an embedding like any other. Neighbors are searched among
 * EMBED_NEIGHBOURS_CANDIDATES training records, or all if there are fewer; the nearest ones have
 * the largest cosine. */
#define EMBED_NEIGHBOURS_CANDIDATES 8192

/* The candidates' embeddings, in host memory. Several threads may call embed_neighbours_mix. */
struct embed_neighbours;

/* most: the most neighbors to mix in, at least 1. The candidates are the first records in the first
 * epoch's order, which depends on the seed; they are read here. d is not needed afterwards. */
int embed_neighbours_open(struct embed_neighbours **out, struct latent_set *d, int64_t most,
                          uint64_t seed, struct error *e);
void embed_neighbours_close(struct embed_neighbours *n); /* NULL is fine */

/* embeds: [count, d], of records samples[0 .. count). Replaces each embedding with the mean
 * direction of itself and its m nearest candidates, the record itself excluded, and keeps its
 * length. m is drawn uniformly from 0 to `most`, independently for each step and sample. */
void embed_neighbours_mix(const struct embed_neighbours *n, float *embeds, int64_t count,
                          const uint64_t *samples, int64_t step);

#endif
