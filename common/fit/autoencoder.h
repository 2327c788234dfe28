#ifndef CCLD_FIT_AUTOENCODER_H
#define CCLD_FIT_AUTOENCODER_H

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/autoencoder_step.h"

/* Training of a KL autoencoder on images: common/fit/loop.h with common/train/autoencoder_step.h
 * and common/data/image_set.h. All of it belongs to the caller. */
struct fit_autoencoder {
    struct fit_loop loop;
    struct autoencoder_step_options step;
    struct image_set *images; /* signed */
    bool flip;                /* mirror every other image */
    int64_t demo_images;      /* in a demo grid: originals above, reconstructions below */
};
extern const struct trainee_functions fit_autoencoder_functions;

#endif
