#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/autoencoder_step.h"

/* What a dry run does. */
enum { STEP = 1, EVALUATION = 2 };

/* Peak memory; without a step, less what is always allocated. */
static int64_t dry_run(const struct parameters *p, const struct step_options *o,
                       const struct autoencoder_step_options *a, const struct device *like,
                       int ranks, int height, int width, int what)
{
    struct device *d = device_open_dry(like);
    struct collective collective = collective_dry(ranks);
    struct parameters *dry = parameters_like(p, d);
    struct autoencoder_step *s;
    struct error e;
    CHECK(autoencoder_step_open(&s, dry, &collective, o, a, &e) == 0);
    size_t numbers = 3 * (size_t)o->batch * (size_t)height * (size_t)width;
    float *images = xcalloc(numbers, sizeof *images);
    uint64_t *samples = xcalloc((size_t)o->batch, sizeof *samples);
    struct autoencoder_losses *losses = xcalloc((size_t)o->batch, sizeof *losses);
    struct autoencoder_batch batch = {
        .n = o->batch, .height = height, .width = width, .images = images, .samples = samples};
    struct step_result r;
    int64_t held = what & STEP ? 0 : (int64_t)device_memory(d).in_use;
    for (int64_t i = 0; what & STEP && i < o->accumulate; i++)
        autoencoder_step_micro_batch(s, 0, &batch);
    if (what & STEP)
        autoencoder_step_update(s, 0, 0, &r);
    if (what & EVALUATION)
        autoencoder_step_reconstruct(s, ARRAY_EMA, &batch, images, losses);
    int64_t bytes = device_dry_memory(d) - held;
    free(losses);
    free(images);
    free(samples);
    autoencoder_step_close(s);
    parameters_free(dry);
    device_close(d);
    return bytes;
}

int64_t autoencoder_step_memory(const struct parameters *p, const struct step_options *o,
                                const struct autoencoder_step_options *a, const struct device *like,
                                int ranks, int height, int width)
{
    struct autoencoder_step_options from_start = *a;
    if (a->disc_start > 0)
        from_start.disc_start = 0;
    if (!like->backend->record_begin)
        return dry_run(p, o, &from_start, like, ranks, height, width, STEP | EVALUATION);
    /* Replayed work keeps its memory during an evaluation. */
    return dry_run(p, o, &from_start, like, ranks, height, width, STEP) +
           dry_run(p, o, &from_start, like, ranks, height, width, EVALUATION);
}
