#ifndef CCLD_NETS_CLOOB_H
#define CCLD_NETS_CLOOB_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The two towers of CLOOB (crowsonkb/cloob-training, cloob_training/model_pt.py): images and texts
 * to unit vectors of one space. Loading infers sizes from the shapes; heads are 64 wide. A file may
 * hold only one of the towers. */
struct cloob;
struct description;

struct cloob_sizes {
    int64_t embed_width;
    bool has_image, has_text;
    int64_t image_size, patch_size; /* pixels a side */
    int64_t context, vocabulary;    /* text: positions; rows of the token embedding */
    int64_t parameters;
};

/* The sizes of a new CLOOB. */
struct cloob_config {
    int64_t embed_width;
    int64_t image_size, patch_size; /* pixels a side; the patch must divide the image */
    int64_t image_width, image_layers;
    int64_t context, vocabulary;
    int64_t text_width, text_layers;
};
/* ViT-B/16. */
extern const struct cloob_config cloob_published;

/* Appends the tensors of both towers. */
void cloob_architecture(struct architecture *a, const struct cloob_config *c);
/* For network_describe: "CLOOB, embed 512, images 224/16 12 layers of 768, text 77 of 49408 tokens
 * 12 layers of 512". */
int cloob_describe(struct description *d, const struct named_weights *names, struct error *e);

/* names must outlive the network. */
int cloob_load(struct cloob **out, const struct named_weights *names, struct device *d,
               struct error *e);
void cloob_free(struct cloob *c); /* NULL is fine */
/* The loaded parameters, for training. */
struct loader *cloob_loader(struct cloob *c);
const struct cloob_sizes *cloob_sizes(const struct cloob *c);

/* rgb: [n, 3, S, S] in [0, 1], S = image_size; normalized inside by CLIP's mean and deviation.
 * Returns [n, d], each row of length 1. */
struct tensor *cloob_image(struct tape *t, const struct cloob *c, struct tensor *rgb);

/* tokens: n rows of `context` ids on the host, padded with zeros after the end token, which is
 * vocabulary - 1. Returns [n, d], each row of length 1. */
struct tensor *cloob_text(struct tape *t, const struct cloob *c, const int32_t *tokens, int64_t n);
/* The same in two steps, the second of which can be replayed: padding, on the host like tokens, is
 * non-zero behind the end token; ids and padding on the device are I32 [n, context]. */
void cloob_padding(const struct cloob *c, const int32_t *tokens, int64_t n, int32_t *padding);
struct tensor *cloob_text_padded(struct tape *t, const struct cloob *c, struct tensor *ids,
                                 struct tensor *padding);

#endif
