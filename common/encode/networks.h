#ifndef CCLD_ENCODE_NETWORKS_H
#define CCLD_ENCODE_NETWORKS_H

#include "common/encode/pipeline.h"
#include "common/images/prepare.h"
#include "common/nets/model.h"
#include "kernels/replay.h"

/* The encoder of encode.h made of the real thing: image files, the autoencoder's encoder and
 * CLOOB's image tower. */
struct encode_models {
    struct model *model;
    struct tape tape;
    enum prep_color color;
    int height, width; /* pixels of what the autoencoder sees */
    int side;          /* of what CLOOB sees; encode_models_describe sets it */
    int64_t max_pixels;
    enum dtype embed_dtype;
    struct encode_work {
        const struct encode_models *models;
        int64_t n; /* images; 0: nothing is allocated */
        struct tensor *pictures, *squares, *moments, *embeds;
        struct replay *replay;
    } work[2];                            /* each of batches of one size; begin as zeros */
    struct encode_work *loaded, *running; /* one of them, or NULL */
};

/* Checks that networks and size go together and fills what the store says of its records (hashes
 * take one read of both files). models must have model, height and width set; it is borrowed. */
int encode_models_describe(struct shard_info *info, struct encode_models *models, struct error *e);
/* info: as described. encoder borrows models. A picture is what prep.h makes of the file, in [-1,
 * 1]; a square is the picture's middle square in [0, 1], resized to what CLOOB sees. */
/* Releases what the encoder took of the device. */
void encode_models_release(struct encode_models *models);
void encode_models_encoder(struct encoder *encoder, struct encode_models *models,
                           const struct shard_info *info);

#endif
