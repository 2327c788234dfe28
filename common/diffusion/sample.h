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
#include "formats/images/image_stream.h"

/* From conditionings to images: noise, sampler with guidance, decoder, 8-bit pixels.
 * Image i of a conditioning depends on the seed and i alone, not on the other images or on the
 * batch. All conditionings start from the same noise, unless `consecutive` is set. */
struct sample_options {
    enum sampler_method method;
    enum schedule schedule;
    int steps;
    double eta; /* SAMPLER_DDIM only */
    uint64_t seed;
    int64_t first, count;  /* images first .. first + count - 1 of each conditioning */
    bool consecutive;      /* numbering continues across conditionings: no noise is used twice */
    int height, width;     /* pixels */
    double guidance_start; /* timesteps above it are sampled without guidance; 1: none */
    double embed_noise;    /* common/diffusion/embed_noise.h; differs per image and prompt */
    double autoencoder_scale;
    const char *init;     /* image file to start from, or NULL for pure noise */
    double starting_time; /* with init: skip timesteps at or above it */
    int batch_size;       /* images sampled together */
    bool low_memory;      /* one condition per U-Net pass; free idle memory between networks */
    bool silent;          /* show no progress */
    const volatile sig_atomic_t *stop; /* end with an error once it is not 0; may be NULL */

    /* NULL, or called before each batch: appends embedded conditionings to those being sampled. The
     * first `done` are finished. If no others are left, it waits for more; none: the end. */
    int (*more)(void *context, int done, struct error *e);
    void *more_context;
};

/* Called for each finished RGB image, conditioning by conditioning. A nonzero result stops. */
typedef int sample_emit(void *context, const struct image *image, int conditioning, int64_t index,
                        struct error *e);

/* Checks that the options and the networks fit together: sizes, channels, encoder and decoder. */
int sample_check(const struct sample_options *o, const struct unet *unet, const struct kl *kl,
                 struct error *e);
/* Samples count images of each of the embedded conditionings. Fails with an error that names the
 * image if one is not finite. */
int sample_run(struct tape *t, const struct sample_options *o, const struct unet *unet,
               const struct kl *kl, const struct conditionings *conditionings, sample_emit *emit,
               void *context, struct error *e);

/* Adds what an image was made with to *r: prompt, a label; prompts if there are several or an
 * image, the line of conditioning_line; seed, index, steps, method, guidance, guidance_start if it
 * is below 1, embed_noise if there is any, and model, a name. */
void sample_remarks(struct image_remarks *r, const struct sample_options *o,
                    const struct conditioning *c, int64_t index, const char *model);

#endif
