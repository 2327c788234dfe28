#ifndef CCLD_NETS_KL_H
#define CCLD_NETS_KL_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The KL autoencoder of CompVis latent-diffusion (ldm/modules/diffusionmodules/model.py, Encoder
 * and Decoder): images to the moments of a Gaussian over latents, and latents to images. Loading
 * infers widths, levels and block counts from names and shapes; a file may hold only one of the two
 * halves. Norms have 32 groups of channels unless a number beside the weights, "norm_groups", says
 * otherwise. Networks too narrow for 32 groups have it: a norm over a group of one or two channels
 * removes the very value of a plain color. */
struct kl;
struct description;

struct kl_sizes {
    int64_t image_channels;  /* 3 */
    int64_t latent_channels; /* z: 4 */
    int factor;              /* pixels per latent, each way: 8 */
    int64_t parameters;
    bool has_encoder, has_decoder;
};

#define KL_LEVELS_MAX  8
#define KL_NORM_GROUPS 32 /* as in the reference */

/* The sizes of a new autoencoder. */
struct kl_config {
    int64_t latent_channels;
    int64_t z_channels; /* between each half and its 1x1 convolution; 0: latent_channels */
    int64_t base_channels, multipliers[KL_LEVELS_MAX]; /* channels per level: base * multiplier */
    int levels;
    int64_t blocks;      /* per level of the encoder; the decoder has one more */
    int64_t norm_groups; /* 0: KL_NORM_GROUPS */
};
/* KL-f8: 128 channels, multipliers 1,2,4,4. */
extern const struct kl_config kl_published;

/* Appends the autoencoder's tensors. */
void kl_architecture(struct architecture *a, const struct kl_config *c);
enum tensor_kind kl_tensor_kind(const char *name);
/* For network_describe: "KL autoencoder, ch 128, multipliers 1,2,4,4, 2 blocks a level, z 4". */
int kl_describe(struct description *d, const struct named_weights *names, struct error *e);

/* names must outlive the network. */
int kl_load(struct kl **out, const struct named_weights *names, struct device *d, struct error *e);
void kl_free(struct kl *k); /* NULL is fine */
/* The loaded parameters, for training. */
struct loader *kl_loader(struct kl *k);
const struct kl_sizes *kl_sizes(const struct kl *k);

/* image: [n, 3, h, w] in [-1, 1], h and w multiples of factor. Returns moments [n, 2z, h/f, w/f]:
 * means, then log-variances, as quant_conv returns them. */
struct tensor *kl_encode(struct tape *t, const struct kl *k, struct tensor *image);

/* z: [n, z, h, w], unscaled. Returns an image [n, 3, h*f, w*f], about [-1, 1], not clamped. */
struct tensor *kl_decode(struct tape *t, const struct kl *k, struct tensor *z);
/* Also returns in *last, to be released, the input of the last convolution (3x3, padding 1):
 * [n, h*f, w*f, c]. With it a loss's gradient by that convolution's weight, kl_last_weight, is one
 * product. last may be NULL. */
struct tensor *kl_decode_keeping(struct tape *t, const struct kl *k, struct tensor *z,
                                 struct tensor **last);
struct tensor *kl_last_weight(const struct kl *k);

#endif
