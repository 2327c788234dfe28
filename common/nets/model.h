#ifndef CCLD_NETS_MODEL_H
#define CCLD_NETS_MODEL_H

#include "common/base/options.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "formats/shards/shard_store.h"

/* A model is a folder with autoencoder.*, cloob.* and diffusion.* (ccld-models(5)). A training run
 * or checkpoint can stand for it: the networks that it does not train are then those of the default
 * model, $CCLD_MODEL or the built-in one. */

enum { MODEL_AUTOENCODER = 1, MODEL_CLOOB = 2, MODEL_UNET = 4 };
#define MODEL_ALL (MODEL_AUTOENCODER | MODEL_CLOOB | MODEL_UNET)

struct model_paths {
    const char *model; /* -m DIR; NULL: $CCLD_MODEL, else the model that ships with the project */
    const char *autoencoder, *cloob, *checkpoint; /* one each, used instead of the folder's; as for
                                                     model_file */
    enum weights_pick pick;
};

/* Rows of an option table; paths is a struct model_paths, files what the folder must have. */
/* clang-format off */
#define MODEL_OPTION(paths, files)                                                                 \
    {.name = "model", .letter = 'm', .kind = OPTION_STRING, .value = &(paths).model,               \
     .argument = "DIR", .help = "folder with " files " (else $CCLD_MODEL)"}
#define MODEL_OPTION_AUTOENCODER(paths)                                                            \
    {.name = "autoencoder", .kind = OPTION_STRING, .value = &(paths).autoencoder,                  \
     .argument = "FILE", .help = "load the autoencoder from FILE"}
#define MODEL_OPTION_CLOOB(paths)                                                                  \
    {.name = "cloob", .kind = OPTION_STRING, .value = &(paths).cloob, .argument = "FILE",          \
     .help = "load CLOOB from FILE"}
/* clang-format on */

/* One network's file, opened. */
struct model_part {
    char *path;
    bool builtin;            /* of the model that ships with the project, unasked for */
    struct weights *weights; /* NULL: not open */
    struct named_weights names;
};

struct model {
    struct model_part autoencoder_part, cloob_part, unet_part;
    struct kl *kl;
    struct cloob *cloob;
    struct unet *unet;
};

/* The weight file that path stands for: path itself, or, if it is the folder of a model, a
 * checkpoint or a run, the network's file in it (a run's best checkpoint's, else its last one's).
 * malloc'ed; NULL if the folder has none. */
char *model_file(const char *path, enum net net, struct error *e);
/* The same for whatever network it is: fails if the folder has several. e names path. */
char *model_only_file(const char *path, struct error *e);
/* Finds and opens the files of the networks in `which` (MODEL_...), and says which of them are the
 * built-in model's. The reason in e names the file. */
int model_find(struct model **out, const struct model_paths *p, unsigned which, struct error *e);
/* Loads the networks whose files are open. On a dry device no weight is read. */
int model_load(struct model *m, struct device *d, struct error *e);
/* Releases networks, but not their files: they can be loaded again. */
void model_unload(struct model *m, unsigned which);
/* Fails, naming both files, if a U-Net was trained on data of another autoencoder or image tower
 * than the model's, by the metadata `autoencoder_encoder` and `cloob_encoder` of its file. */
int model_check_origin(const struct model *m, struct error *e);
/* Fails, naming both, unless a store was encoded with this network, or with one whose encoder or
 * image tower is the same: it makes the same latents or embeddings. Reads the whole file. */
int model_part_check(const struct model_part *part, const struct shard_model *store,
                     struct error *e);
/* Finds and loads. */
int model_open(struct model **out, const struct model_paths *p, unsigned which, struct device *d,
               struct error *e);
void model_close(struct model *m); /* NULL is fine */
/* Releases the networks in `which` and their files early. */
void model_drop(struct model *m, unsigned which);

/* `requested` unless it is 0x0; then the size of the images that a part was trained on, from its
 * file's metadata `pixels` (64x64), which checkpoints have; without it, as in published weights,
 * 256x256. */
struct size2d model_image_size(const struct model_part *part, struct size2d requested);
/* The noise added to embeddings when a U-Net was trained, relative to their length (ccld-fit
 * --embed-noise), from its file's metadata `embed_noise`; 0 without it. */
double model_embed_noise(const struct model_part *part);
/* The timestep above which a U-Net's maker recommends to sample without guidance (ccld-plms
 * --guidance-start), from its file's metadata `guidance_start`; 1 without it: always guided. */
double model_guidance_start(const struct model_part *part);

#endif
