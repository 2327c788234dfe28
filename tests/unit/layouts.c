/* One effective batch shared by 1, 2 or 4 ranks: weights, averages and moments end in the same
 * bits, and losses and gradient norms are the same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/nets/patch_discriminator.h"
#include "common/train/autoencoder_step.h"
#include "common/train/cloob_step.h"
#include "common/train/completion.h"
#include "common/train/unet_step.h"
#include "tests/support/tap.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/trained.h"

#define SIDE    24 /* of images */
#define BATCH   2
#define PARTS   4 /* micro-batches of an update, over all ranks */
#define ALL     (BATCH * PARTS)
#define STEPS   3
#define CONTEXT 6
#define WORDS   40

/* Inputs of every step, sample by sample. */
static struct {
    float moments[ALL][8 * 8 * 8], embeds[ALL][16];
    float images[ALL][3 * SIDE * SIDE];
    int32_t tokens[ALL][CONTEXT];
    uint64_t samples[ALL];
} data;

static void load(void)
{
    for (uint64_t i = 0; i < ALL; i++) {
        float words[2];
        data.samples[i] = i;
        rng_normal(data.moments[i], 8 * 8 * 8, 5, RNG_POSTERIOR, 1, i, 0);
        rng_normal(data.embeds[i], 16, 5, RNG_POSTERIOR, 2, i, 0);
        rng_uniform(data.images[i], 3 * SIDE * SIDE, 5, RNG_SHAPES, 3, i, 0);
        rng_uniform(words, 2, 5, RNG_SHAPES, 4, i, 0);
        const int32_t tokens[CONTEXT] = {WORDS - 2, (int32_t)(words[0] * 30),
                                         (int32_t)(words[1] * 30), WORDS - 1};
        memcpy(data.tokens[i], tokens, sizeof tokens);
    }
}

static struct step_options options(int ranks)
{
    return (struct step_options){
        .seed = 9, .batch = BATCH, .accumulate = PARTS / ranks, .adamw = ADAMW_DEFAULTS};
}

/* What a rank does, and what comes of it. */
struct rank {
    struct collective *collective;
    struct device *device;
    struct parameters *parameters;
    struct step_result results[STEPS];
};

static int64_t sample_at(const struct rank *r, const struct step_options *o, int64_t k)
{
    return step_position(o, r->collective, k);
}

/* As training programs do; the discriminator stays in place. */
static void place(struct rank *r)
{
    int *completion = xcalloc((size_t)r->parameters->trained_count, sizeof *completion);
    completion_find(r->parameters, completion);
    parameters_place(r->parameters, r->collective, completion);
    free(completion);
}

static void train_unet(void *arg)
{
    struct rank *r = arg;
    struct step_options o = options(r->collective->size);
    struct unet_step_options u = {.uncond_prob = 0.2, .embed_noise = 0.1, .autoencoder_scale = 1};
    struct unet_config config = {.latent_channels = 4,
                                 .embed_width = 16,
                                 .base_channels = 16,
                                 .multipliers = {4, 4, 4, 4},
                                 .cond_width = 32};
    struct architecture architecture = {0};
    struct unet_step *s;
    struct error e;
    unet_architecture(&architecture, &config);
    r->parameters = parameters_new(&architecture, NET_UNET, 3, r->device);
    architecture_release(&architecture);
    place(r);
    if (unet_step_open(&s, r->parameters, r->collective, &o, &u, &e) != 0)
        die("%s", e.text);
    for (int64_t step = 0; step < STEPS; step++) {
        for (int64_t k = 0; k < o.accumulate; k++) {
            int64_t at = sample_at(r, &o, k);
            struct unet_batch b = {.n = BATCH,
                                   .height = 8,
                                   .width = 8,
                                   .moments = data.moments[at],
                                   .embeds = data.embeds[at],
                                   .samples = data.samples + at};
            unet_step_micro_batch(s, step, &b);
        }
        unet_step_update(s, 1e-3, 0.9, &r->results[step]);
    }
    unet_step_close(s);
}

/* With a discriminator from the second step on. */
static void train_autoencoder(void *arg)
{
    struct rank *r = arg;
    struct step_options o = options(r->collective->size);
    struct autoencoder_step_options a = {
        .kl_weight = 1e-5, .disc_weight = 0.5, .disc_rate = 1, .disc_start = 1};
    struct kl_config config = {
        .latent_channels = 2, .base_channels = 32, .multipliers = {1, 2}, .levels = 2, .blocks = 1};
    struct architecture architecture = {0}, discriminator = {0};
    struct autoencoder_step *s;
    struct error e;
    kl_architecture(&architecture, &config);
    patch_discriminator_architecture(&discriminator, 3, 8, 3);
    r->parameters = parameters_new(&architecture, NET_KL, 3, r->device);
    r->parameters->companion = parameters_new(&discriminator, NET_DISCRIMINATOR, 4, r->device);
    architecture_release(&architecture);
    place(r);
    architecture_release(&discriminator);
    if (autoencoder_step_open(&s, r->parameters, r->collective, &o, &a, &e) != 0)
        die("%s", e.text);
    for (int64_t step = 0; step < STEPS; step++) {
        for (int64_t k = 0; k < o.accumulate; k++) {
            int64_t at = sample_at(r, &o, k);
            struct autoencoder_batch b = {.n = BATCH,
                                          .height = SIDE,
                                          .width = SIDE,
                                          .images = data.images[at],
                                          .samples = data.samples + at};
            autoencoder_step_micro_batch(s, step, &b);
        }
        autoencoder_step_update(s, 1e-3, 0.9, &r->results[step]);
    }
    autoencoder_step_close(s);
}

static void train_cloob(void *arg)
{
    struct rank *r = arg;
    struct step_options o = options(r->collective->size);
    struct cloob_step_options l = {CLOOB_INV_TAU, CLOOB_SCALE_HOPFIELD};
    struct cloob_config config = {.embed_width = 16,
                                  .image_size = SIDE,
                                  .patch_size = 8,
                                  .image_width = 64,
                                  .image_layers = 1,
                                  .context = CONTEXT,
                                  .text_width = 64,
                                  .text_layers = 1,
                                  .vocabulary = WORDS};
    struct architecture architecture = {0};
    struct cloob_step *s;
    struct error e;
    cloob_architecture(&architecture, &config);
    r->parameters = parameters_new(&architecture, NET_CLOOB, 3, r->device);
    architecture_release(&architecture);
    place(r);
    if (cloob_step_open(&s, r->parameters, r->collective, &o, &l, &e) != 0)
        die("%s", e.text);
    for (int64_t step = 0; step < STEPS; step++) {
        for (int64_t k = 0; k < o.accumulate; k++) {
            int64_t at = sample_at(r, &o, k);
            struct cloob_batch b = {.n = BATCH,
                                    .images = data.images[at],
                                    .tokens = data.tokens[at],
                                    .samples = data.samples + at};
            cloob_step_micro_batch(s, &b);
        }
        cloob_step_update(s, 1e-3, 0.9, &r->results[step]);
    }
    cloob_step_close(s);
}

static bool same_parameters(const struct parameters *a, const struct parameters *b)
{
    return trained_same_bits(a, b, ARRAY_WEIGHTS) && trained_same_bits(a, b, ARRAY_EMA) &&
           trained_same_bits(a, b, ARRAY_M) && trained_same_bits(a, b, ARRAY_V);
}

static bool same_results(const struct rank *a, const struct rank *b)
{
    bool same = true;
    for (int i = 0; i < STEPS; i++)
        same &= a->results[i].applied && b->results[i].applied &&
                a->results[i].loss == b->results[i].loss &&
                a->results[i].gradient_norm == b->results[i].gradient_norm;
    return same;
}

static void compare(const char *what, void (*train)(void *rank))
{
    struct rank one = {.collective = collective_alone()};
    struct error e;
    if (device_open(&one.device, "cpu", &e) != 0)
        die("%s", e.text);
    train(&one);
    for (int count = 2; count <= PARTS; count *= 2) {
        struct thread_ranks threads;
        struct rank ranks[PARTS] = {0};
        void *args[PARTS];
        thread_ranks_open(&threads, count);
        for (int i = 0; i < count; i++) {
            ranks[i] =
                (struct rank){.collective = &threads.collectives[i], .device = threads.devices[i]};
            args[i] = &ranks[i];
        }
        thread_ranks_run(&threads, train, args);
        bool bits = true, results = true;
        for (int i = 0; i < count; i++) {
            const struct parameters *p = ranks[i].parameters, *q = one.parameters;
            bits &= same_parameters(p, q) &&
                    (!q->companion || same_parameters(p->companion, q->companion));
            results &= same_results(&ranks[i], &one);
        }
        tap_ok(bits, "%s: the same bits on %d ranks as on one", what, count);
        tap_ok(results, "%s: the same losses and gradient norms on %d ranks", what, count);
        for (int i = 0; i < count; i++)
            parameters_free(ranks[i].parameters);
        thread_ranks_close(&threads);
    }
    parameters_free(one.parameters);
    device_close(one.device);
}

int main(void)
{
    load();
    compare("U-Net", train_unet);
    compare("autoencoder", train_autoencoder);
    compare("CLOOB", train_cloob);
    return tap_done();
}
