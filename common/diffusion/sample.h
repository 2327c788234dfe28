#ifndef CCLD_DIFFUSION_SAMPLE_H
#define CCLD_DIFFUSION_SAMPLE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/diffusion/conditioning.h"
#include "common/diffusion/sampler.h"
#include "common/diffusion/schedule.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "formats/images/image.h"

/* From conditionings to pictures: noise, sampler with guidance, decoder, 8-bit pixels.
 * Image i of a conditioning depends on seed and i alone, not on which others are made, nor on the
 * batch it was made in. All conditionings start from the same noise, unless `consecutive`. */
struct sample_options {
    enum sampler_method method;
    enum schedule schedule;
    int steps;
    double eta; /* SAMPLER_DDIM only */
    uint64_t seed;
    int64_t first, count;  /* images first .. first + count - 1 of each conditioning */
    bool consecutive;      /* numbers go on from one conditioning to the next: no noise twice */
    int height, width;     /* pixels */
    double guidance_start; /* at times above it prompts steer without guidance; 1: nowhere */
    double embed_noise;    /* common/diffusion/embed_noise.h: another for each image and prompt */
    double autoencoder_scale;
    const char *init;     /* image file to start from, or NULL for noise alone */
    double starting_time; /* with init: steps at or above it are left out */
    int batch_size;       /* images sampled at a time */
    /* One condition at a time through the U-Net, and what one network leaves idle is given back
     * before the next runs. */
    bool low_memory;
    const volatile sig_atomic_t *stop; /* not 0: end with an error; NULL: nobody asks to */
};

/* Called for each finished RGB image in order: conditioning after conditioning. Not 0 stops. */
typedef int sample_emit(void *context, const struct image *image, int conditioning, int64_t index,
                        struct error *e);

/* Whether options and networks go together: sizes, channels, parts. */
int sample_check(const struct sample_options *o, const struct unet *unet, const struct kl *kl,
                 struct error *e);
/* Makes count images of each of the embedded conditionings. An image that is not finite is an
 * error that names it. */
int sample_run(struct tape *t, const struct sample_options *o, const struct unet *unet,
               const struct kl *kl, const struct conditionings *conditionings, sample_emit *emit,
               void *context, struct error *e);

#endif
