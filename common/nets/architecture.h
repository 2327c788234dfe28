#ifndef CCLD_NETS_ARCHITECTURE_H
#define CCLD_NETS_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/names.h"

/* The names and shapes of the three networks at any size, where no file tells them. */
struct net_sizes {
    int64_t latent, embed; /* channels of a latent, width of an embed */
    int64_t unet_base, unet_multipliers[4], unet_cond;
    double autoencoder_scale;
    int64_t kl_channels, kl_multipliers[8], kl_blocks;
    int64_t kl_z; /* channels between the halves and the 1x1 convolutions; 0: as many as latent */
    int kl_levels;
    int64_t kl_groups; /* of its norms; 0: KL_NORM_GROUPS */
    int64_t image_size, patch, image_width, image_layers;
    int64_t text_positions, text_width, text_layers, vocabulary;
};
/* The sizes of the published models: U-Net 192 of 4,4,8,8, KL-f8, CLOOB ViT-B/16. */
extern const struct net_sizes net_sizes_published;
#define UNET_COND_WIDTH 1024 /* the reference's */
#define KL_NORM_GROUPS  32   /* the reference's */

enum tensor_kind {
    TENSOR_TRAINED,
    TENSOR_FIXED,  /* Fourier weights: drawn once, never trained */
    TENSOR_SCALAR, /* a number stored beside the weights */
};

#define ARCHITECTURE_MAX_DIMS 4

struct tensor_spec {
    char name[120];
    enum tensor_kind kind;
    int ndim;
    int64_t shape[ARCHITECTURE_MAX_DIMS];
    float value; /* of a TENSOR_SCALAR */
};

struct architecture {
    struct tensor_spec *items;
    int count, capacity;
};

/* 0 when a U-Net of these sizes can be: attention's heads are 64 channels wide. */
int net_sizes_check_unet(const struct net_sizes *s, struct error *e);

/* Appends a network's tensors to an architecture that starts as {0}. Sizes must be possible. */
void unet_architecture(struct architecture *p, const struct net_sizes *s);
void kl_architecture(struct architecture *p, const struct net_sizes *s);
void cloob_architecture(struct architecture *p, const struct net_sizes *s);
/* common/nets/patch_discriminator.h; the reference's has 64 channels and 3 layers. */
void patch_discriminator_architecture(struct architecture *p, int64_t image_channels,
                                      int64_t channels, int layers);
void architecture_release(struct architecture *p);

int64_t tensor_spec_count(const struct tensor_spec *t); /* elements */
/* What a tensor of a file is, by its name. */
enum tensor_kind tensor_kind_of(enum net net, const char *name);

#endif
