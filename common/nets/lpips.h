#ifndef CCLD_NETS_LPIPS_H
#define CCLD_NETS_LPIPS_H

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* LPIPS (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
 * arXiv 1801.03924), as taming-transformers has it: features of VGG16 (Simonyan and Zisserman,
 * arXiv 1409.1556) behind the last ReLU before each pooling and behind relu5_3, each pixel's of
 * length 1, squared differences weighted by channel, means over pixels, summed over the five
 * layers. Widths are read from shapes. Nothing in it is trained. */
struct lpips;

/* names must outlive l. */
int lpips_load(struct lpips **l, const struct named_weights *names, struct device *d,
               struct error *e);
void lpips_free(struct lpips *l); /* NULL is fine */
struct device *lpips_device(const struct lpips *l);

#define LPIPS_LEAST_SIDE 16 /* of pictures: four poolings */

/* How far reconstructions are from pictures, both [n, 3, h, w] in about [-1, 1]: F32 [n]. Gradients
 * flow to reconstructions only; pictures must want none. */
struct tensor *lpips_distance(struct tape *t, const struct lpips *l, struct tensor *pictures,
                              struct tensor *reconstructions);

#endif
