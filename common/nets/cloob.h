#ifndef CCLD_NETS_CLOOB_H
#define CCLD_NETS_CLOOB_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/nets/loader.h"
#include "kernels/tape.h"

/* The two towers of CLOOB (crowsonkb/cloob-training, cloob_training/model_pt.py): pictures and
 * texts to unit vectors of one space. Sizes are read from the shapes; heads are 64 wide. A file may
 * hold only one of the towers. */
struct cloob;

struct cloob_sizes {
    int64_t embed_width;
    bool has_image, has_text;
    int64_t image_size, patch_size;
    int64_t context, vocabulary; /* text: positions; rows of the embedding */
    int64_t parameters;
};

/* names must outlive c. */
int cloob_load(struct cloob **c, const struct named_weights *names, struct device *d,
               struct error *e);
void cloob_free(struct cloob *c);
/* Its parameters, for training. */
struct loader *cloob_loader(struct cloob *c);
const struct cloob_sizes *cloob_sizes(const struct cloob *c);

/* rgb: [n, 3, S, S] in [0, 1], S = image_size; normalised by CLIP's mean and deviation inside.
 * Returns [n, d], each row of length 1. */
struct tensor *cloob_image(struct tape *t, const struct cloob *c, struct tensor *rgb);

/* tokens: n rows of `context` ids on the host, padded with zeros behind the end token, which is
 * vocabulary - 1. Returns [n, d], each row of length 1. */
struct tensor *cloob_text(struct tape *t, const struct cloob *c, const int32_t *tokens, int64_t n);

#endif
