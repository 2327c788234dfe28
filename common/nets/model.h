#ifndef CCLD_NETS_MODEL_H
#define CCLD_NETS_MODEL_H

#include "common/base/options.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"

/* A model is a folder holding autoencoder.*, cloob.* and diffusion.* (ccld-models(5)). */

enum { MODEL_AUTOENCODER = 1, MODEL_CLOOB = 2, MODEL_UNET = 4 };

struct model_paths {
    const char *model; /* -m DIR; NULL: $CCLD_MODEL, else the model that ships with the project */
    const char *autoencoder, *cloob, *checkpoint; /* one file each; win over the folder's */
    enum weights_pick pick;
};

/* One network's file, opened. */
struct model_part {
    char *path;
    struct weights *weights; /* NULL: not asked for */
    struct named_weights names;
};

struct model {
    struct model_part autoencoder_part, cloob_part, unet_part;
    struct kl *kl;
    struct cloob *cloob;
    struct unet *unet;
};

/* Finds, opens and loads the networks of `which`. The reason in e names the file. */
int model_open(struct model **m, const struct model_paths *p, unsigned which, struct device *d,
               struct error *e);
void model_close(struct model *m);
/* `asked`, or where that is 0x0 the size of the pictures that a part was trained on, as its file's
 * metadata `pixels` says (64x64), which checkpoints have; where it says nothing, as with published
 * weights, 256x256. */
struct size2d model_picture_size(const struct model_part *part, struct size2d asked);
/* The noise in embeds that a U-Net was trained with, in lengths of theirs (ccld-fit's
 * --embed-noise), as its file's metadata `embed_noise` says; 0 where it says nothing. */
double model_embed_noise(const struct model_part *part);
/* Releases the networks of `which` and their files early. */
void model_drop(struct model *m, unsigned which);

#endif
