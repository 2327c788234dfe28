#ifndef CCLD_NETS_NAMES_H
#define CCLD_NETS_NAMES_H

#include "formats/weights.h"

/* Our tensor names (those of the reference's PyTorch modules) found in a file of any naming:
 *   U-Net   ours; Lightning's `model.` and `model_ema.`
 *   KL      ours (CompVis: `encoder.`, `decoder.`, `quant_conv.`, `post_quant_conv.`); the same
 *           behind `first_stage_model.`; diffusers' AutoencoderKL, old and new attention names
 *   CLOOB   ours; haiku's `params` (a pair of image and text dictionaries)
 * Shapes and strides are as our names promise (a haiku matrix appears transposed, a diffusers
 * attention matrix as a 1x1 convolution), so some tensors are not contiguous. */

enum net { NET_UNET, NET_KL, NET_CLOOB };
enum weights_pick { PICK_EMA, PICK_RAW }; /* PICK_EMA falls back to raw where there is only that */

struct named_weights {
    enum net net;
    struct weight *items; /* sorted by name; names are ours; data belong to the struct weights */
    int count;
    char description[96]; /* for -v: "Lightning names, EMA weights" */
    bool ema;             /* whether EMA weights were there and taken */
    char *names;          /* storage behind items' names */
};

/* Which network a file holds: 0, or -1 when its names are none of the above. */
int names_detect(enum net *net, const struct weights *w, struct error *e);
/* Fails when the file does not hold that network; a missing single tensor shows in names_get. w
 * must outlive out. */
int names_resolve(struct named_weights *out, const struct weights *w, enum net net,
                  enum weights_pick pick, struct error *e);
void names_release(struct named_weights *n);

const struct weight *names_find(const struct named_weights *n, const char *name); /* NULL: none */
/* As find; a tensor that is missing or has another shape is an error. -1 in shape fits any size. */
int names_get(const struct weight **t, const struct named_weights *n, const char *name, int ndim,
              const int64_t *shape, struct error *e);
/* A number stored beside the weights: "autoencoder_scale" (U-Net), "scale_factor" (KL files of
 * latent diffusion). false when there is none. */
bool names_scalar(const struct named_weights *n, const char *name, double *value);

/* XXH3-128, 32 hex digits and a zero, of names, dtypes, shapes and elements in order of our names:
 * the same for the same tensors in whatever container, order and naming. Reads all data once. */
void names_hash(char hex[33], const struct named_weights *n);

/* Sizes that shapes tell. Fails with the name of the tensor that is missing or does not fit. */
struct unet_architecture {
    int64_t channels[4];                         /* of the four resolutions */
    int64_t latent_channels;                     /* 4 */
    int64_t embed_width;                         /* of the conditioning embed, 512 */
    int64_t cond_width;                          /* 1024 */
    int64_t mapping_features, timestep_features; /* Fourier features: 128, 16 */
};
struct kl_architecture {
    int64_t channels; /* "ch" */
    int levels;       /* resolutions; each but the last halves the side */
    int64_t multipliers[8];
    int residual_blocks; /* per level of the encoder; the decoder has one more */
    int64_t image_channels, z_channels, embed_channels;
};
struct transformer_architecture {
    int layers;
    int64_t width, heads, positions; /* heads = width / 64; image: class token included */
};
struct cloob_architecture {
    int64_t embed_width;
    struct transformer_architecture image, text;
    int64_t image_size, patch_size, image_channels, vocabulary;
};
int unet_architecture(struct unet_architecture *a, const struct named_weights *n, struct error *e);
int kl_architecture(struct kl_architecture *a, const struct named_weights *n, struct error *e);
int cloob_architecture(struct cloob_architecture *a, const struct named_weights *n,
                       struct error *e);

/* One line of the above with the number of parameters: "U-Net, base 192, multipliers 4,4,8,8,
 * 1,174,321,228 parameters". */
int names_describe(char *line, size_t size, const struct named_weights *n, struct error *e);

#endif
