#ifndef CCLD_TESTS_SYNTH_NETS_H
#define CCLD_TESTS_SYNTH_NETS_H

#include "common/nets/architecture.h"

/* Weights of the three networks by the formula of tests/support/synth.h. */

/* gain multiplies trained tensors of two and more dimensions: the golden U-Net files have
 * SYNTH_UNET_GAIN, the others 1. */
void synth_fill(float *out, const struct tensor_spec *t, uint64_t seed, float gain);
#define SYNTH_UNET_GAIN 0.5f

/* All tensors of an architecture in memory, as networks are loaded from. Free out->items and
 * *memory; the names belong to the architecture. */
void synth_named_weights(struct named_weights *out, float **memory, const struct architecture *p,
                         enum net net, uint64_t seed, float gain);

#endif
