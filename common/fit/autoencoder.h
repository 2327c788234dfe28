#ifndef CCLD_FIT_AUTOENCODER_H
#define CCLD_FIT_AUTOENCODER_H

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/autoencoder_step.h"

/* Training of a KL autoencoder on pictures: common/fit/loop.h with common/train/autoencoder_step.h
 * and common/data/image_set.h. */
struct fit_autoencoder {
    struct fit_loop loop; /* functions, trainee and order are filled in by the run */
    struct autoencoder_step_options step; /* batch and accumulate as the loop's */
    struct image_set *images;             /* signed */
    bool flip;
    int64_t demo_pictures; /* in a demo: originals above, reconstructions below; 0: no demos */
};

/* As fit_loop_run. */
int fit_autoencoder_run(const struct fit_autoencoder *f, enum fit_end *end, struct error *e);

#endif
