#ifndef CCLD_FIT_UNET_H
#define CCLD_FIT_UNET_H

#include "common/data/latent_set.h"
#include "common/fit/demo.h"
#include "common/fit/loop.h"
#include "common/fit/score.h"
#include "common/train/unet_step.h"

/* Training a U-Net on shard stores: fit_loop_run on `loop`, whose functions are fit_unet_functions.
 * Everything belongs to the caller. */
struct fit_unet {
    struct fit_loop loop;
    struct unet_step_options step;
    int64_t embed_neighbours; /* common/data/embed_neighbours.h; 0: no averaging */
    struct latent_set *data;
    struct demo *demo;   /* NULL: no demo grids */
    struct score *score; /* NULL: no scores */
    int64_t score_bytes; /* of memory that scoring takes: score_memory */
};
extern const struct trainee_functions fit_unet_functions;

/* Fails if the U-Net does not fit the store's latents and embeddings. */
int fit_unet_check(const struct parameters *p, const struct shard_info *store, struct error *e);

#endif
