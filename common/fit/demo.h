#ifndef CCLD_FIT_DEMO_H
#define CCLD_FIT_DEMO_H

#include <signal.h>
#include <stdint.h>

#include "common/images/grid.h"
#include "common/nets/model.h"
#include "common/run/metrics.h"
#include "common/train/parameters.h"
#include "formats/shards/shard_store.h"

/* Demo grids, as the reference makes them: PLMS of 50 steps, guidance 3 where a prompt has no
 * weight of its own, the averaged weights; the starting noise is the same every time, another one
 * for each image. */
struct demo;

struct demo_options {
    struct model_paths model; /* autoencoder and CLOOB are taken from it */
    const char *prompts;      /* file, a prompt a line */
    int64_t columns;          /* of the grid; 0: about as wide as high */
    int64_t batch;            /* images sampled at a time */
    uint64_t seed;
    double autoencoder_scale, embed_noise;
    int height, width; /* pixels */
};

/* Reads and embeds the prompts. The networks must be those that `store` was encoded with. p must
 * outlive d. */
int demo_open(struct demo **d, const struct demo_options *o, const struct parameters *p,
              const struct shard_info *store, struct error *e);
void demo_close(struct demo *d); /* NULL is fine */

/* Whether RUN/demo/00002000.png is there. */
bool demo_exists(const char *run, int64_t step);
/* Draws a grid there, for demos of any kind, and puts it into m. */
int demo_keep(const struct grid *g, int columns, const char *run, int64_t step, struct metrics *m,
              struct error *e);
/* Makes it, and puts it and its prompts into m. Returns 1 when *stop ended it before. */
int demo_make(struct demo *d, const char *run, int64_t step, struct metrics *m,
              const volatile sig_atomic_t *stop, struct error *e);

#endif
