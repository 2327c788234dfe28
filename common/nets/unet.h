#ifndef CCLD_NETS_UNET_H
#define CCLD_NETS_UNET_H

#include "common/base/error.h"
#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The conditioned residual U-Net of cloob-latent-diffusion (train_latent_diffusion.py): from noisy
 * latents, their time in [0, 1] and a CLOOB embedding it predicts the velocity
 * v = alpha * noise - sigma * latent. Loading infers widths, depth and block counts from the
 * names and shapes in the file. */
struct unet;
struct description;

struct unet_sizes {
    int64_t latent_channels; /* z */
    int64_t embed_width;     /* d */
    int side_multiple;       /* h and w must be multiples of it: 2 per downsampling */
    int64_t parameters;
    double autoencoder_scale; /* stored beside the weights; 0: none */
};

#define UNET_LEVELS     4    /* resolutions of a new U-Net */
#define UNET_COND_WIDTH 1024 /* as in the reference */

/* The sizes of a new U-Net. */
struct unet_config {
    int64_t latent_channels, embed_width;
    int64_t base_channels, multipliers[UNET_LEVELS]; /* channels per level: base times multiplier */
    int64_t cond_width;                              /* of the vector that modulates all blocks */
    double autoencoder_scale;
};
/* Base 192, multipliers 4,4,8,8. */
extern const struct unet_config unet_published;

/* Fails if no U-Net has these sizes: attention needs a multiple of HEAD_WIDTH channels. */
int unet_config_check(const struct unet_config *c, struct error *e);
/* Appends the U-Net's tensors; unet_config_check must accept c. */
void unet_architecture(struct architecture *a, const struct unet_config *c);
enum tensor_kind unet_tensor_kind(const char *name);
/* For network_describe: "U-Net, base 192, multipliers 4,4,8,8". */
int unet_describe(struct description *d, const struct named_weights *names, struct error *e);

/* names must outlive the network. */
int unet_load(struct unet **out, const struct named_weights *names, struct device *d,
              struct error *e);
void unet_free(struct unet *u); /* NULL is fine */
/* The loaded parameters, for training. */
struct loader *unet_loader(struct unet *u);
const struct unet_sizes *unet_sizes(const struct unet *u);

/* Gradient checkpointing: while recording, keep only each block's input and recompute the block in
 * the backward pass. Needs the memory of one block instead of all, and costs one more forward. */
void unet_set_recompute(struct unet *u, bool recompute);

/* x: [n, z, h, w]; time: [n]; embed: [n, d] of any length, zero for "unconditional".
 * Returns v [n, z, h, w]; the caller releases it. */
struct tensor *unet_forward(struct tape *t, const struct unet *u, struct tensor *x,
                            struct tensor *time, struct tensor *embed);

#endif
