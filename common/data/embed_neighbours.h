#ifndef CCLD_DATA_EMBED_NEIGHBOURS_H
#define CCLD_DATA_EMBED_NEIGHBOURS_H

#include <stdint.h>

#include "common/data/latent_set.h"

/* A text that leaves things open has an embed between those of all images that it fits, where no
 * image's own embed ever is. A network that is shown images with embeds from such places learns
 * to draw one of the images around instead of a mixture of them.
 *
 * Sheynin et al., "kNN-Diffusion: Image generation via large-scale retrieval", ICLR 2023, train on
 * embeds of images and their nearest neighbours in place of captions; here what the network is
 * given is their mean, an embed as any other. Neighbours are looked for among
 * EMBED_NEIGHBOURS_CANDIDATES records that training has, or all where there are fewer; nearest is
 * what has the largest cosine. */
#define EMBED_NEIGHBOURS_CANDIDATES 8192

/* Memory of the host: the candidates's embeds. Those who only mix may be several threads. */
struct embed_neighbours;

/* most: up to so many neighbours, at least 1. The candidates is the first records of the first
 * epoch's order, which follows from the seed; they are read here. d is not needed afterwards. */
int embed_neighbours_open(struct embed_neighbours **n, struct latent_set *d, int64_t most,
                          uint64_t seed, struct error *e);
void embed_neighbours_close(struct embed_neighbours *n); /* NULL is fine */

/* embeds: [count, d], of the records samples[0 .. count). Each becomes the mean direction of
 * itself and its m nearest other records of the candidates, at its own length. m is drawn from 0 to
 * `most`, all as likely, anew for each step and sample. */
void embed_neighbours_mix(const struct embed_neighbours *n, float *embeds, int64_t count,
                          const uint64_t *samples, int64_t step);

#endif
