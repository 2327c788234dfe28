#include "common/train/completion.h"

#include <limits.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/autoencoder_step.h"
#include "common/train/cloob_step.h"
#include "common/train/unet_step.h"

/* Nothing is computed, so two small samples of any values will do. */
#define SAMPLES 2
#define LATENT  8

static const struct step_options options = {.batch = SAMPLES, .accumulate = 1};
static const uint64_t samples[SAMPLES];

static void run_unet(struct parameters *p, int *completion)
{
    struct unet_step_options u = {.autoencoder_scale = 1};
    struct unet_step *s;
    struct error e;
    if (unet_step_open(&s, p, collective_alone(), &options, &u, &e) != 0)
        return; /* the caller will find out why */
    updater_record_completion(unet_step_updater(s), completion);
    float *embeds = xcalloc(SAMPLES * (size_t)unet_step_sizes(s)->embed_width, sizeof *embeds);
    struct unet_batch batch = {
        .n = SAMPLES, .height = LATENT, .width = LATENT, .samples = samples, .embeds = embeds};
    unet_step_micro_batch(s, 0, &batch);
    free(embeds);
    unet_step_close(s);
}

static void run_autoencoder(struct parameters *p, int *completion)
{
    struct autoencoder_step_options a = {.kl_weight = 1};
    struct autoencoder_step *s;
    struct error e;
    if (autoencoder_step_open(&s, p, collective_alone(), &options, &a, &e) != 0)
        return; /* the caller will find out why */
    updater_record_completion(autoencoder_step_updater(s), completion);
    int side = LATENT * autoencoder_step_sizes(s)->factor;
    float *images = xcalloc((size_t)(SAMPLES * 3 * side * side), sizeof *images);
    struct autoencoder_batch batch = {
        .n = SAMPLES, .height = side, .width = side, .images = images, .samples = samples};
    autoencoder_step_micro_batch(s, 0, &batch);
    free(images);
    autoencoder_step_close(s);
}

static void run_cloob(struct parameters *p, int *completion)
{
    struct cloob_step_options l = {.inv_tau = 1};
    struct cloob_step *s;
    struct error e;
    if (cloob_step_open(&s, p, collective_alone(), &options, &l, &e) != 0)
        return; /* the caller will find out why */
    updater_record_completion(cloob_step_updater(s), completion);
    const struct cloob_sizes *sizes = cloob_step_sizes(s);
    size_t pixels = 3 * (size_t)(sizes->image_size * sizes->image_size);
    float *images = xcalloc(SAMPLES * pixels, sizeof *images);
    int32_t *tokens = xcalloc(SAMPLES * (size_t)sizes->context, sizeof *tokens);
    struct cloob_batch batch = {
        .n = SAMPLES, .images = images, .tokens = tokens, .samples = samples};
    cloob_step_micro_batch(s, &batch);
    cloob_step_gradients(s);
    free(images);
    free(tokens);
    cloob_step_close(s);
}

void completion_find(const struct parameters *p, int *completion)
{
    struct device *d = device_open_dry(p->device);
    struct parameters *dry = parameters_like(p, d);
    parameters_free(dry->companion);
    dry->companion = NULL;
    for (int i = 0; i < p->trained_count; i++)
        completion[i] = INT_MAX;
    if (p->net == NET_UNET)
        run_unet(dry, completion);
    else if (p->net == NET_KL)
        run_autoencoder(dry, completion);
    else if (p->net == NET_CLOOB)
        run_cloob(dry, completion);
    parameters_free(dry);
    device_close(d);
}
