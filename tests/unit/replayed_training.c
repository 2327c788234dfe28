/* Steps of the autoencoder and of CLOOB on a GPU, which the emulator stands for: micro-batches
 * download nothing, an update reads the losses once, and from the third time on the work is
 * replayed, with the same bits as if it were not. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/train/autoencoder_step.h"
#include "common/train/cloob_step.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

#define GOLDEN "tests/unit/golden/reconstruction.safetensors"
#define SIDE   24 /* the least that the discriminator takes */
#define BATCH  2
#define MOST   4 /* samples of an update */
#define STEPS  4

/* The device's table, which counts. */
static struct backend counting;
static const struct backend *real;
static int downloads, products;

static void download(struct device *d, void *to, const void *from, size_t bytes)
{
    downloads++;
    real->download(d, to, from, bytes);
}

static void count_conv2d(struct device *d, const struct conv2d_args *a)
{
    products++;
    real->conv2d(d, a);
}

static void count_linear(struct device *d, const struct linear_args *a)
{
    products++;
    real->linear(d, a);
}

static struct device *open_counted(const char *precision, bool replays)
{
    struct device *d;
    struct error e;
    if (device_open(&d, "cuda", &e) != 0 || device_set_precision(d, precision, false, &e) != 0)
        die("%s", e.text);
    real = d->backend;
    counting = *real;
    counting.download = download;
    counting.conv2d = count_conv2d;
    counting.linear = count_linear;
    if (!replays)
        counting.record_begin = NULL;
    d->backend = &counting;
    return d;
}

static void close_counted(struct device *d)
{
    d->backend = real;
    device_close(d);
}

/* What a run leaves. */
struct outcome {
    float *weights; /* and then the averaged ones */
    int64_t count;
    double numbers[STEPS][4];
    int in_micro_batches, in_update; /* downloads of a step, at most */
    int products;                    /* calls in the last step's micro-batches */
};

static void note_downloads(int *most)
{
    *most = downloads > *most ? downloads : *most;
    downloads = 0;
}

static void keep_weights(struct outcome *o, const struct parameters *p)
{
    o->count = 2 * p->trained_elements;
    o->weights = xmalloc((size_t)o->count * sizeof *o->weights);
    for (int i = 0; i < 2; i++) {
        float *to = o->weights + i * p->trained_elements;
        const float *from =
            parameters_read(p, i ? ARRAY_EMA : ARRAY_WEIGHTS, 0, p->trained_elements, to);
        if (from != to)
            memcpy(to, from, (size_t)p->trained_elements * sizeof *to);
    }
}

/* Runs both ways and compares. */
static void compare(const char *what, const char *precision,
                    void (*run)(struct device *d, int64_t accumulate, struct outcome *o),
                    int64_t accumulate)
{
    struct outcome o[2] = {{0}};
    for (int replays = 0; replays < 2; replays++) {
        struct device *d = open_counted(precision, replays);
        run(d, accumulate, &o[replays]);
        close_counted(d);
    }
    tap_ok(o[0].count == o[1].count &&
               !memcmp(o[0].weights, o[1].weights, (size_t)o[0].count * sizeof(float)) &&
               !memcmp(o[0].numbers, o[1].numbers, sizeof o[0].numbers),
           "%s in %s, %" PRId64 " micro-batches: replayed steps end in the bits of plain ones",
           what, precision, accumulate);
    tap_ok(o[0].products > 0 && o[1].products == 0,
           "the last step was replayed as a whole: %d products were called, and %d if it was not",
           o[1].products, o[0].products);
    for (int i = 0; i < 2; i++)
        tap_ok(o[i].in_micro_batches == 0 && o[i].in_update == 1,
               "micro-batches download %d times, an update %d times", o[i].in_micro_batches,
               o[i].in_update);
    free(o[0].weights);
    free(o[1].weights);
}

/* On the CPU, where weights have no working copies: stale ones would show in the losses. */
static void compare_with_cpu(const char *what,
                             void (*run)(struct device *d, int64_t accumulate, struct outcome *o))
{
    struct outcome here = {0}, there = {0};
    struct device *gpu = open_counted("fp32", true), *cpu;
    struct error e;
    double worst = 0;
    run(gpu, 1, &there);
    close_counted(gpu);
    if (device_open(&cpu, "cpu", &e) != 0)
        die("%s", e.text);
    run(cpu, 1, &here);
    device_close(cpu);
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, fabs(there.numbers[i][0] / here.numbers[i][0] - 1));
    tap_ok(worst < 1e-3, "%s: losses of %d steps are those of the CPU but for %.2g", what, STEPS,
           worst);
    free(here.weights);
    free(there.weights);
}

static struct weights *golden;

static struct named_weights named(enum net net)
{
    struct named_weights n;
    struct error e;
    if (names_resolve(&n, golden, net, PICK_RAW, &e) != 0)
        die("%s: %s", GOLDEN, e.text);
    return n;
}

static const uint64_t samples[MOST] = {3, 1, 4, 11};

static struct parameters *new_autoencoder(struct device *d, const struct named_weights *of_judge)
{
    struct kl_config sizes = {
        .latent_channels = 2, .base_channels = 32, .multipliers = {1, 1}, .levels = 2, .blocks = 1};
    struct architecture architecture = {0};
    struct error e;
    kl_architecture(&architecture, &sizes);
    struct parameters *p = parameters_new(&architecture, NET_KL, 3, d);
    architecture_release(&architecture);
    if (parameters_from_names(&p->companion, of_judge, NULL, d, &e) != 0)
        die("%s", e.text);
    return p;
}

static struct autoencoder_batch draw_images(int64_t step, int64_t k)
{
    static float images[BATCH][3 * SIDE * SIDE];
    for (int64_t i = 0; i < BATCH; i++)
        rng_uniform(images[i], 3 * SIDE * SIDE, 7, RNG_SHAPES, (uint32_t)step,
                    samples[k * BATCH + i], 0);
    return (struct autoencoder_batch){BATCH, SIDE, SIDE, images[0], samples + k * BATCH};
}

/* With all terms of the loss; the discriminator from the second step on. */
static void train_autoencoder(struct device *d, int64_t accumulate, struct outcome *o)
{
    struct named_weights of_judge = named(NET_DISCRIMINATOR), of_lpips = named(NET_LPIPS);
    struct parameters *p = new_autoencoder(d, &of_judge);
    struct step_options options = {.seed = 11,
                                   .batch = BATCH,
                                   .accumulate = accumulate,
                                   .adamw = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8}};
    struct autoencoder_step_options terms = {.kl_weight = 1e-5,
                                             .lpips = &of_lpips,
                                             .perceptual_weight = 1,
                                             .disc_weight = 0.5,
                                             .disc_rate = 1,
                                             .disc_start = 1};
    struct autoencoder_step *s;
    struct error e;
    if (autoencoder_step_open(&s, p, collective_alone(), &options, &terms, &e) != 0)
        die("%s", e.text);
    for (int64_t step = 0; step < STEPS; step++) {
        struct step_result r;
        downloads = products = 0;
        for (int64_t k = 0; k < accumulate; k++) {
            struct autoencoder_batch b = draw_images(step, k);
            autoencoder_step_micro_batch(s, step, &b);
        }
        note_downloads(&o->in_micro_batches);
        o->products = products;
        autoencoder_step_update(s, 1e-3, 0.9, &r);
        note_downloads(&o->in_update);
        struct autoencoder_losses l = autoencoder_step_losses(s);
        struct reconstruction_numbers n = autoencoder_step_numbers(s);
        const double numbers[4] = {l.total, l.kl, step > 0 ? n.weight : 0, l.perceptual};
        memcpy(o->numbers[step], numbers, sizeof numbers);
    }
    keep_weights(o, p);
    autoencoder_step_close(s);
    parameters_free(p);
    names_release(&of_judge);
    names_release(&of_lpips);
}

#define CONTEXT 8
#define WORDS   600 /* rows of the vocabulary */

static struct cloob_batch draw_pairs(int64_t step, int64_t k)
{
    static float images[BATCH][3 * 16 * 16];
    static int32_t tokens[BATCH][CONTEXT];
    for (int64_t i = 0; i < BATCH; i++) {
        float words[CONTEXT];
        uint64_t sample = samples[k * BATCH + i];
        rng_uniform(images[i], 3 * 16 * 16, 7, RNG_SHAPES, (uint32_t)step, sample, 0);
        rng_uniform(words, CONTEXT, 8, RNG_SHAPES, (uint32_t)step, sample, 0);
        for (int j = 0; j < CONTEXT; j++)
            tokens[i][j] = j < 4 + k + i ? (int32_t)(words[j] * (WORDS - 2)) : 0;
        tokens[i][4 + k + i] = WORDS - 1;
    }
    return (struct cloob_batch){BATCH, images[0], tokens[0], samples + k * BATCH};
}

static void train_cloob(struct device *d, int64_t accumulate, struct outcome *o)
{
    struct cloob_config sizes = {.embed_width = 24,
                                 .image_size = 16,
                                 .patch_size = 8,
                                 .image_width = 64,
                                 .image_layers = 1,
                                 .context = CONTEXT,
                                 .text_width = 64,
                                 .text_layers = 1,
                                 .vocabulary = WORDS};
    struct step_options options = {
        .batch = BATCH, .accumulate = accumulate, .adamw = {0.9, 0.98, 1e-6, 0.1}};
    struct cloob_step_options loss = {CLOOB_INV_TAU, CLOOB_SCALE_HOPFIELD};
    struct architecture architecture = {0};
    cloob_architecture(&architecture, &sizes);
    struct parameters *p = parameters_new(&architecture, NET_CLOOB, 3, d);
    struct cloob_step *s;
    struct error e;
    if (cloob_step_open(&s, p, collective_alone(), &options, &loss, &e) != 0)
        die("%s", e.text);
    for (int64_t step = 0; step < STEPS; step++) {
        struct step_result r;
        downloads = products = 0;
        for (int64_t k = 0; k < accumulate; k++) {
            struct cloob_batch b = draw_pairs(step, k);
            cloob_step_micro_batch(s, &b);
        }
        cloob_step_gradients(s);
        note_downloads(&o->in_micro_batches);
        o->products = products;
        cloob_step_update(s, 1e-3, 0.9, &r);
        note_downloads(&o->in_update);
        o->numbers[step][0] = r.loss;
        o->numbers[step][1] = r.gradient_norm;
        o->numbers[step][2] = cloob_step_cosine(s);
    }
    keep_weights(o, p);
    cloob_step_close(s);
    parameters_free(p);
    architecture_release(&architecture);
}

int main(void)
{
    struct error e;
    struct device *d;
    message_init("replayed_training");
    message_set_verbosity(VERBOSITY_QUIET);
    emulated_cuda();
    if (device_open(&d, "cuda", &e) != 0) {
        tap_skip(e.text, "training on the emulator");
        return tap_done();
    }
    device_close(d);
    if (weights_open(&golden, GOLDEN, &e) != 0)
        die("cannot read '%s': %s", GOLDEN, e.text);
    compare("the autoencoder", "fp32", train_autoencoder, 1);
    compare("the autoencoder", "fp16", train_autoencoder, 2);
    compare("CLOOB", "fp32", train_cloob, 1);
    compare("CLOOB", "fp16", train_cloob, 2);
    compare_with_cpu("the autoencoder", train_autoencoder);
    compare_with_cpu("CLOOB", train_cloob);
    weights_close(golden);
    return tap_done();
}
