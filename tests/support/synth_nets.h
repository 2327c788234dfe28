#ifndef CCLD_TESTS_SYNTH_NETS_H
#define CCLD_TESTS_SYNTH_NETS_H

#include "common/nets/architecture.h"

/* Weights of the three networks by the formula in tests/support/synth.h. */

int64_t tensor_spec_count(const struct tensor_spec *t); /* elements */

/* gain multiplies trained tensors with two dimensions or more: SYNTH_UNET_GAIN for the golden U-Net
 * files, 1 for the others. */
void synth_fill(float *out, const struct tensor_spec *t, uint64_t seed, float gain);
#define SYNTH_UNET_GAIN 0.5f

/* All tensors of an architecture in memory, ready for unet_load and the like, as F32, F16 or BF16.
 * Free out->items and *memory; the names belong to the architecture. */
void synth_named_weights(struct named_weights *out, void **memory, const struct architecture *p,
                         enum net net, enum dtype dtype, uint64_t seed, float gain);

#endif
