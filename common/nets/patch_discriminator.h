#ifndef CCLD_NETS_PATCH_DISCRIMINATOR_H
#define CCLD_NETS_PATCH_DISCRIMINATOR_H

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The discriminator of patches (Isola et al., "Image-to-Image Translation with Conditional
 * Adversarial Networks", arXiv 1611.07004) as taming-transformers has it (NLayerDiscriminator):
 * `layers` 4x4 convolutions of stride 2 and two of stride 1, batch norm behind all but the first
 * and the last, leaky ReLUs. Only for training: norms take the batch's own statistics, running
 * averages are neither kept nor read. Its architecture is patch_discriminator_architecture's. */
struct patch_discriminator;

struct patch_discriminator_sizes {
    int64_t image_channels; /* 3 */
    int64_t channels;       /* behind the first convolution: 64 */
    int layers;             /* 3 */
    int64_t least_side;     /* of pictures: 24 */
    int64_t parameters;
};

/* names must outlive p. */
int patch_discriminator_load(struct patch_discriminator **p, const struct named_weights *names,
                             struct device *d, struct error *e);
void patch_discriminator_free(struct patch_discriminator *p); /* NULL is fine */
/* Its parameters, for training. */
struct loader *patch_discriminator_loader(struct patch_discriminator *p);
const struct patch_discriminator_sizes *
patch_discriminator_sizes(const struct patch_discriminator *p);

/* pictures: [n, image_channels, h, w] in about [-1, 1]. Returns a logit for each patch, [n, 1, h',
 * w'] F32: how much it looks like a patch of a real picture. */
struct tensor *patch_discriminator_logits(struct tape *t, const struct patch_discriminator *p,
                                          struct tensor *pictures);

#endif
