#ifndef CCLD_NETS_PATCH_DISCRIMINATOR_H
#define CCLD_NETS_PATCH_DISCRIMINATOR_H

#include "common/base/error.h"
#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The PatchGAN discriminator (Isola et al., "Image-to-Image Translation with Conditional
 * Adversarial Networks", arXiv 1611.07004) as in taming-transformers (NLayerDiscriminator):
 * `layers` 4x4 convolutions of stride 2 and two of stride 1, batch norm after all but the first
 * and the last, leaky ReLUs. For training only: norms use the statistics of the batch; running
 * averages are neither kept nor read. */
struct patch_discriminator;
struct description;

struct patch_discriminator_sizes {
    int64_t image_channels; /* 3 */
    int64_t channels;       /* after the first convolution: 64 */
    int layers;             /* 3 */
    int64_t least_side;     /* smallest height and width of an image: 24 */
    int64_t parameters;
};

/* Appends the discriminator's tensors. The reference has 64 channels and 3 layers. */
void patch_discriminator_architecture(struct architecture *a, int64_t image_channels,
                                      int64_t channels, int layers);
/* For network_describe: "PatchGAN discriminator, 64 channels, 3 layers". */
int patch_discriminator_describe(struct description *d, const struct named_weights *names,
                                 struct error *e);

/* names must outlive the network. */
int patch_discriminator_load(struct patch_discriminator **out, const struct named_weights *names,
                             struct device *d, struct error *e);
void patch_discriminator_free(struct patch_discriminator *p); /* NULL is fine */
/* The loaded parameters, for training. */
struct loader *patch_discriminator_loader(struct patch_discriminator *p);
const struct patch_discriminator_sizes *
patch_discriminator_sizes(const struct patch_discriminator *p);

/* images: [n, image_channels, h, w] in about [-1, 1]. Returns F32 logits [n, 1, h', w'], one per
 * patch: the higher, the more it looks like a patch of a real image. */
struct tensor *patch_discriminator_logits(struct tape *t, const struct patch_discriminator *p,
                                          struct tensor *images);

#endif
