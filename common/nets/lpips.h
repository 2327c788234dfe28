#ifndef CCLD_NETS_LPIPS_H
#define CCLD_NETS_LPIPS_H

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
 * arXiv 1801.03924), as in taming-transformers: VGG16 features (Simonyan and Zisserman, arXiv
 * 1409.1556) after the last ReLU before each pooling and after relu5_3, normalized to length 1 at
 * each pixel; squared differences weighted by channel, averaged over pixels and summed over the
 * five layers. Loading infers widths from shapes. Nothing in it is trained. */
struct lpips;
struct description;

/* For network_describe: "LPIPS, VGG16 of 64 channels". */
int lpips_describe(struct description *d, const struct named_weights *names, struct error *e);

/* names must outlive the network. */
int lpips_load(struct lpips **out, const struct named_weights *names, struct device *d,
               struct error *e);
void lpips_free(struct lpips *l); /* NULL is fine */

#define LPIPS_LEAST_SIDE 16 /* smallest height and width of an image: there are four poolings */

/* Distance between images and their reconstructions, both [n, 3, h, w] in about [-1, 1]: F32 [n].
 * Gradients flow to reconstructions only; images must not require one. */
struct tensor *lpips_distance(struct tape *t, const struct lpips *l, struct tensor *images,
                              struct tensor *reconstructions);

#endif
