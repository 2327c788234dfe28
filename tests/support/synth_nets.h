#ifndef CCLD_TESTS_SYNTH_NETS_H
#define CCLD_TESTS_SYNTH_NETS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/names.h"

/* The names and shapes of the three networks at any size, for weights made by the formula of
 * tests/support/synth.h. */
struct synth_sizes {
    int64_t latent, embed;
    int64_t unet_base, unet_multipliers[4], unet_cond;
    double autoencoder_scale;
    int64_t kl_channels, kl_multipliers[8], kl_blocks;
    int kl_levels;
    int64_t image_size, patch, image_width, image_layers;
    int64_t text_positions, text_width, text_layers, vocabulary;
};

struct synth_tensor {
    char name[120];
    int ndim;
    int64_t shape[4];
    bool gain;      /* multiplied by the gain: the U-Net's trained matrices */
    bool is_scalar; /* value below, not the formula */
    float value;
};

struct synth_plan {
    struct synth_tensor *items; /* free() it */
    int count, capacity;
    bool gain; /* for what is added from now on */
};

/* Appends a network's tensors to a plan that starts as {0}. */
void synth_plan_unet(struct synth_plan *p, const struct synth_sizes *s);
void synth_plan_kl(struct synth_plan *p, const struct synth_sizes *s);
void synth_plan_cloob(struct synth_plan *p, const struct synth_sizes *s);

size_t synth_count(const struct synth_tensor *t);
void synth_fill(float *out, const struct synth_tensor *t, uint64_t seed, float gain);
#define SYNTH_UNET_GAIN 0.5f /* of the golden U-Net files */

/* All tensors of a plan in memory, as networks are loaded from. Free out->items and *memory; the
 * names belong to the plan. */
void synth_named_weights(struct named_weights *out, float **memory, const struct synth_plan *p,
                         enum net net, uint64_t seed, float gain);

#endif
