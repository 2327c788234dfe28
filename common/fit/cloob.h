#ifndef CCLD_FIT_CLOOB_H
#define CCLD_FIT_CLOOB_H

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/cloob_step.h"

/* Training of CLOOB on image-caption pairs: common/fit/loop.h with common/train/cloob_step.h and
 * common/data/image_set.h. All of it belongs to the caller. */
struct fit_cloob {
    struct fit_loop loop;
    struct cloob_step_options step;
    bool flip; /* mirror every other image */
    /* With captions, in [0, 1]; images of another size than the network's are resized as
     * ccld-encode resizes them. */
    struct image_set *images;
};
extern const struct trainee_functions fit_cloob_functions;

/* Held-out pairs are evaluated in groups of this size: each image must find its caption among the
 * group's, and each caption its image. No two pairs have the same caption; pairs that do not fill
 * another group are left out if there is a full one. */
#define FIT_CLOOB_GROUP 256

/* Sizes of the network; fails if it is not a CLOOB with both towers and with a vocabulary for which
 * there are merges. */
int fit_cloob_sizes(struct cloob_sizes *sizes, const struct parameters *p, struct error *e);

#endif
