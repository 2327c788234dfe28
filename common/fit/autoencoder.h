#ifndef CCLD_FIT_AUTOENCODER_H
#define CCLD_FIT_AUTOENCODER_H

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/autoencoder_step.h"

/* Training a KL autoencoder on images: fit_loop_run on `loop`, whose functions are
 * fit_autoencoder_functions. Everything belongs to the caller. */
struct fit_autoencoder {
    struct fit_loop loop;
    struct autoencoder_step_options step;
    struct image_set *images; /* in [-1, 1] */
    bool flip;                /* mirror half of the images, chosen at random */
    int64_t demo_images;      /* in a demo grid: originals above, reconstructions below */
};
extern const struct trainee_functions fit_autoencoder_functions;

#endif
