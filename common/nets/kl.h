#ifndef CCLD_NETS_KL_H
#define CCLD_NETS_KL_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The KL autoencoder of CompVis latent-diffusion (ldm/modules/diffusionmodules/model.py, Encoder
 * and Decoder): pictures to the moments of a Gaussian over latents, and latents to pictures.
 * Widths, levels and blocks are read from names and shapes; a file may hold only one of the two
 * halves. Norms have 32 groups of channels, or as many as a number beside the weights says,
 * "norm_groups", which networks too narrow for 32 have: where a group is a channel or two, a norm
 * takes away what a plain colour is. */
struct kl;

struct kl_sizes {
    int64_t image_channels; /* 3 */
    int64_t z_channels;     /* of a latent: 4 */
    int factor;             /* pixels per latent, each way: 8 */
    int64_t parameters;
    bool has_encoder, has_decoder;
};

/* names must outlive k. */
int kl_load(struct kl **k, const struct named_weights *names, struct device *d, struct error *e);
void kl_free(struct kl *k);
/* Its parameters, for training. */
struct loader *kl_loader(struct kl *k);
const struct kl_sizes *kl_sizes(const struct kl *k);

/* image: [n, 3, h, w] in [-1, 1], h and w multiples of factor. Returns moments [n, 2z, h/f, w/f]:
 * means, then log-variances, as quant_conv gives them. */
struct tensor *kl_encode(struct tape *t, const struct kl *k, struct tensor *image);

/* z: [n, z, h, w], unscaled. Returns a picture [n, 3, h*f, w*f], about [-1, 1], not clamped. */
struct tensor *kl_decode(struct tape *t, const struct kl *k, struct tensor *z);
/* The same; *last, to be released, is what the last convolution, of kernel 3x3 and padding 1, made
 * the picture of: [n, h*f, w*f, c]. With it a loss' gradient by that convolution's weight, which is
 * kl_last_weight, is one product. last may be NULL. */
struct tensor *kl_decode_keeping(struct tape *t, const struct kl *k, struct tensor *z,
                                 struct tensor **last);
struct tensor *kl_last_weight(const struct kl *k);

#endif
