#ifndef CCLD_FIT_DEMO_H
#define CCLD_FIT_DEMO_H

#include <signal.h>
#include <stdint.h>

#include "common/images/grid.h"
#include "common/nets/model.h"
#include "common/run/metrics.h"
#include "common/train/parameters.h"
#include "formats/shards/shard_store.h"

/* Demo grids, made as in the reference: averaged weights, 50 PLMS steps, guidance 3 for prompts
 * without a weight. Each image of a grid has its own starting noise, the same in every grid. */
struct demo;

struct demo_options {
    struct model_paths model; /* of the autoencoder and CLOOB */
    const char *prompts;      /* file with one prompt per line */
    int64_t columns;          /* of the grid; 0: grid_default_columns */
    int64_t batch;            /* images sampled together */
    uint64_t seed;
    double autoencoder_scale, embed_noise;
    int height, width; /* pixels */
};

/* Reads and embeds the prompts. Fails if `store` was not encoded with these networks. p must
 * outlive the demo. */
int demo_open(struct demo **out, const struct demo_options *o, const struct parameters *p,
              const struct shard_info *store, struct error *e);
void demo_close(struct demo *d); /* NULL is fine */

/* Whether RUN/demo/<step>.png exists; the step has 8 digits. */
bool demo_exists(const char *run, int64_t step);
/* Writes a grid of any kind there and adds it to m. */
int demo_keep(const struct grid *g, int columns, const char *run, int64_t step, struct metrics *m,
              struct error *e);
/* Samples a grid of the prompts, writes it there and adds it and the prompts to m. Returns 1 if
 * *stop became nonzero first. */
int demo_make(struct demo *d, const char *run, int64_t step, struct metrics *m,
              const volatile sig_atomic_t *stop, struct error *e);

#endif
