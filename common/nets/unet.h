#ifndef CCLD_NETS_UNET_H
#define CCLD_NETS_UNET_H

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The conditioned residual U-Net of cloob-latent-diffusion (train_latent_diffusion.py there): given
 * noisy latents, their time in [0, 1] and a CLOOB embed, it predicts the velocity v = alpha*noise -
 * sigma*latent. Widths, depth and numbers of blocks are read from the names and shapes. */
struct unet;

struct unet_sizes {
    int64_t latent_channels; /* z */
    int64_t embed_width;     /* d */
    int side_multiple;       /* h and w must be multiples of it: 2 to the number of poolings */
    int64_t parameters;
    double autoencoder_scale; /* stored beside the weights; 0 when there is none */
};

/* names must outlive u. */
int unet_load(struct unet **u, const struct named_weights *names, struct device *d,
              struct error *e);
void unet_free(struct unet *u);
/* Its parameters, for training. */
struct loader *unet_loader(struct unet *u);
const struct unet_sizes *unet_sizes(const struct unet *u);

/* While recording, a block's inside is forgotten and run again by the backward direction: memory of
 * one block instead of all, for the time of one more forward. */
void unet_set_recompute(struct unet *u, bool recompute);

/* x: [n, z, h, w]; time: [n]; embed: [n, d], any length but zero for "unconditional".
 * Returns v [n, z, h, w]; the caller releases it. */
struct tensor *unet_forward(struct tape *t, const struct unet *u, struct tensor *x,
                            struct tensor *time, struct tensor *embed);

#endif
