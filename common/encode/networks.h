#ifndef CCLD_ENCODE_NETWORKS_H
#define CCLD_ENCODE_NETWORKS_H

#include "common/encode/pipeline.h"
#include "common/images/prepare.h"
#include "common/nets/model.h"
#include "kernels/replay.h"

/* The encoder of pipeline.h for image files: the autoencoder's encoder and CLOOB's image tower. */
struct encode_networks {
    struct model *model;
    struct tape tape;
    enum prepare_color color;
    int height, width; /* pixels of the autoencoder's input */
    int side;          /* pixels of CLOOB's square input; set by encode_networks_describe */
    int64_t max_pixels;
    bool allow_truncated;
    enum dtype embed_dtype;
    struct encode_work {
        const struct encode_networks *networks;
        int64_t n; /* images per batch; 0: nothing is allocated */
        struct tensor *images, *squares, *moments, *embeds;
        struct replay *replay;
    } work[2];                            /* one per batch size; start zeroed */
    struct encode_work *loaded, *running; /* point into work, or NULL */
};

/* Checks that the networks and the size fit together, sets side and fills the store's description
 * of its records; hashing reads both model files once. model, tape, color, height, width,
 * max_pixels and embed_dtype must be set; model stays the caller's. */
int encode_networks_describe(struct shard_info *info, struct encode_networks *networks,
                             struct error *e);
/* Bytes of host memory that the process needs at the peak of encoding on a device like this one:
 * those of tensors, which a dry run finds out, and of the pipeline. The files of the model are
 * open, and none of its networks is loaded; tape and side need not be set. Fails if the networks
 * cannot be loaded or do not fit the size. */
int encode_networks_memory(int64_t *bytes, const struct encode_networks *networks,
                           const struct encode_options *options, const struct device *like,
                           struct error *e);
/* Fills *encoder, which borrows networks. info is what encode_networks_describe filled. The
 * encoder's image is the prepared file in [-1, 1]; its square is the middle square of that image in
 * [0, 1], resized to CLOOB's input size. */
void encode_networks_encoder(struct encoder *encoder, struct encode_networks *networks,
                             const struct shard_info *info);
/* Frees the device memory that the encoder allocated. Call it before tape_release. */
void encode_networks_release(struct encode_networks *networks);

#endif
