#ifndef CCLD_NETS_NAMES_H
#define CCLD_NETS_NAMES_H

#include "formats/weights/arena.h"
#include "formats/weights/weights.h"

/* Our tensor names (those of the reference's PyTorch modules) found in a file of any naming:
 *   U-Net   ours; Lightning's `model.` and `model_ema.`
 *   KL      ours (CompVis: `encoder.`, `decoder.`, `quant_conv.`, `post_quant_conv.`); the same
 *           behind `first_stage_model.`; diffusers' AutoencoderKL, old and new attention names
 *   CLOOB   ours; haiku's `params` (a pair of image and text dictionaries)
 *   LPIPS   ours (torchvision's VGG16 `features.`, `lin0.model.1.weight` ...); taming-transformers'
 *           `net.slice1.`, also behind an autoencoder checkpoint's `loss.perceptual_loss.`
 *   PatchGAN discriminator   ours (taming's `main.`); the same behind `loss.discriminator.`
 * Shapes and strides are as our names promise (a haiku matrix appears transposed, a diffusers
 * attention matrix as a 1x1 convolution), so some tensors are not contiguous. */

struct device;

enum net { NET_UNET, NET_KL, NET_CLOOB, NET_LPIPS, NET_DISCRIMINATOR };
enum weights_pick { PICK_EMA, PICK_RAW }; /* PICK_EMA falls back to raw where there is only that */

struct named_weights {
    enum net net;
    struct weight *items; /* sorted by name; names are ours; data belong to the struct weights */
    int count;
    char description[96]; /* for -v: "Lightning names, EMA weights" */
    bool ema;             /* whether EMA weights were there and taken */
    bool foreign;         /* the file's own names differ by more than a prefix */
    double scale_factor;  /* of a latent diffusion checkpoint; 0: none */
    struct arena arena;   /* storage behind items' names */
    /* Where items' data lie; NULL: in host memory, as those of files do. Of data on a device only a
     * loader of that device makes use; numbers beside the weights are on the host all the same. */
    const struct device *device;
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
 * latent diffusion), "norm_groups" (KL). false when there is none. */
bool names_scalar(const struct named_weights *n, const char *name, double *value);

/* XXH3-128, 32 hex digits and a zero, of names, dtypes, shapes and elements in order of our names:
 * the same for the same tensors in whatever container, order and naming. Reads all data once. */
void names_hash(char hex[33], const struct named_weights *n);

/* One line about the sizes that shapes tell, with the number of parameters: "U-Net, base 192,
 * multipliers 4,4,8,8, 1,174,321,228 parameters". Fails with the name of a tensor that is missing.
 */
int names_describe(char *line, size_t size, const struct named_weights *n, struct error *e);

#endif
