#ifndef CCLD_NETS_NAMES_H
#define CCLD_NETS_NAMES_H

#include "formats/weights/arena.h"
#include "formats/weights/weights.h"

/* Finds tensors under our names (those of the reference's PyTorch modules) in files that use any of
 * these namings:
 *   U-Net   ours; Lightning's `model.` and `model_ema.`
 *   KL      ours (CompVis: `encoder.`, `decoder.`, `quant_conv.`, `post_quant_conv.`), also after
 *           `first_stage_model.`; diffusers' AutoencoderKL, old and new attention names
 *   CLOOB   ours; haiku's `params` (a pair of image and text dictionaries)
 *   LPIPS   ours (torchvision's VGG16 `features.`, `lin0.model.1.weight` ...); taming-transformers'
 *           `net.slice1.`, also after an autoencoder checkpoint's `loss.perceptual_loss.`
 *   PatchGAN discriminator   ours (taming's `main.`), also after `loss.discriminator.`
 * Shapes and strides are as our names promise: a haiku matrix appears transposed, a diffusers
 * attention matrix as a 1x1 convolution. Some tensors are therefore not contiguous. */

struct device;

enum net { NET_UNET, NET_KL, NET_CLOOB, NET_LPIPS, NET_DISCRIMINATOR };
enum weights_pick { PICK_EMA, PICK_RAW }; /* PICK_EMA accepts raw weights if there are no others */

struct named_weights {
    enum net net;
    struct weight *items; /* sorted by name, ours; the data belong to the struct weights */
    int count;
    char description[96]; /* for -v: "Lightning names, EMA weights" */
    bool ema;             /* these are EMA weights */
    bool foreign;         /* the file's own names differ by more than a prefix */
    double scale_factor;  /* from a latent diffusion checkpoint; 0: none */
    struct arena arena;   /* storage of items' names */
    /* Where items' data are; NULL: in host memory, as with a file. Only a loader for that device
     * reads data on a device; numbers beside the weights are on the host in any case. */
    const struct device *device;
};

/* Detects a file's network. Fails if its names belong to none of the above. */
int names_detect(enum net *net, const struct weights *w, struct error *e);
/* Fails if the file does not hold that network or two of its tensors get one name; names_get
 * reports missing tensors. A quantized tensor that has a scale in another one becomes unreadable. w
 * must outlive out. */
int names_resolve(struct named_weights *out, const struct weights *w, enum net net,
                  enum weights_pick pick, struct error *e);
void names_release(struct named_weights *n);

const struct weight *names_find(const struct named_weights *n, const char *name); /* NULL: none */
/* As names_find; fails if the tensor is missing, has another shape or is not of real numbers. -1 in
 * shape fits any size. */
int names_get(const struct weight **t, const struct named_weights *n, const char *name, int ndim,
              const int64_t *shape, struct error *e);
/* Fails, naming the tensor and its type, unless its elements are real numbers. */
int names_check_type(const struct weight *t, struct error *e);
/* A number stored beside the weights: "autoencoder_scale" (U-Net), "scale_factor" (KL files of
 * latent diffusion), "norm_groups" (KL). false if there is none. */
bool names_scalar(const struct named_weights *n, const char *name, double *value);

/* The functions from here on are in names_hash.c.
 *
 * XXH3-128, as 32 hex digits and a zero, of names, dtypes, shapes and elements, sorted by our
 * names: the same tensors hash alike in any container, order and naming. Reads all data once. */
void names_hash(char hex[33], const struct named_weights *n);
/* The same of the part that makes the data: an autoencoder's encoder and quant_conv, CLOOB's image
 * tower; after the type of its elements, "F32:". "" if the file does not have that part. Numbers in
 * F32 that F16 can all hold are hashed as F16: they stay the same data's if other parts are trained
 * on from a file in F16. */
#define ENCODER_HASH_SIZE 48
void names_encoder_hash(char hash[ENCODER_HASH_SIZE], const struct named_weights *n);
/* Whether two such hashes say that the parts differ. They cannot if one is empty, or if one part
 * has been converted to another type. */
bool encoder_hashes_differ(const char *a, const char *b);

#endif
