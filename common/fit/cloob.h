#ifndef CCLD_FIT_CLOOB_H
#define CCLD_FIT_CLOOB_H

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/cloob_step.h"

/* Training CLOOB on image-caption pairs: fit_loop_run on `loop`, whose functions are
 * fit_cloob_functions. Everything belongs to the caller. */
struct fit_cloob {
    struct fit_loop loop;
    struct cloob_step_options step;
    bool flip; /* mirror half of the images, chosen at random */
    /* With captions, in [0, 1]. Images of another size than the network's are resized as in
     * ccld-encode. */
    struct image_set *images;
};
extern const struct trainee_functions fit_cloob_functions;

/* Held-out pairs are evaluated in groups of this size: each image must find its caption among those
 * of the group, and each caption its image. Pairs whose caption repeats an earlier one are left
 * out, as is an incomplete group if there is a complete one. */
#define FIT_CLOOB_GROUP 256

/* The sizes of the network. Fails if it lacks a tower or its vocabulary does not fit CLIP's merges.
 */
int fit_cloob_sizes(struct cloob_sizes *sizes, const struct parameters *p, struct error *e);

#endif
