#ifndef CCLD_FIT_UNET_H
#define CCLD_FIT_UNET_H

#include "common/data/latent_set.h"
#include "common/fit/demo.h"
#include "common/fit/loop.h"
#include "common/train/unet_step.h"

/* Training of a U-Net on shards: common/fit/loop.h with common/train/unet_step.h and
 * common/data/latent_set.h. All of it belongs to the caller. */
struct fit_unet {
    struct fit_loop loop;
    struct unet_step_options step;
    int64_t embed_neighbours; /* average with at most that many neighbors
                                 (common/data/embed_neighbours.h); 0: do not */
    struct latent_set *data;
    struct demo *demo; /* NULL: none */
};
extern const struct trainee_functions fit_unet_functions;

/* Whether the U-Net takes what the store holds. */
int fit_unet_check(const struct parameters *p, const struct shard_info *store, struct error *e);

#endif
