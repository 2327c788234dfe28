/* Times whole training steps of a network: noise, forward, loss, backward, AdamW and EMA. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/program/device.h"
#include "common/train/autoencoder_step.h"
#include "common/train/cloob_step.h"
#include "common/train/unet_step.h"
#include "tests/support/profile.h"

static const char *const network_names[] = {"unet", "autoencoder", "cloob", NULL};

static struct {
    int network;
    int64_t base, batch, side, accumulate, runs;
    bool recompute, profile, on_request;
} settings = {.accumulate = 1, .runs = 5};

static const struct option options[] = {
    {.name = "net",
     .kind = OPTION_CHOICE,
     .value = &settings.network,
     .argument = "NAME",
     .help = "the network to train",
     .choices = network_names},
    {.name = "base",
     .kind = OPTION_INT,
     .value = &settings.base,
     .argument = "N",
     .max = 1024,
     .help = "base channels, or a twelfth of the width of CLOOB's image tower (0: 64, 128, 64)"},
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &settings.batch,
     .argument = "N",
     .max = 4096,
     .help = "images per micro-batch (0: 8, 1, 8)"},
    {.name = "side",
     .kind = OPTION_INT,
     .value = &settings.side,
     .argument = "N",
     .max = 1024,
     .help = "side of a latent or an image (0: 32, 256, 224)"},
    {.name = "accumulate",
     .kind = OPTION_INT,
     .value = &settings.accumulate,
     .argument = "N",
     .min = 1,
     .max = 4096,
     .help = "micro-batches per step"},
    {.name = "runs",
     .kind = OPTION_INT,
     .value = &settings.runs,
     .argument = "N",
     .min = 1,
     .max = 1000,
     .help = "timed steps, after two warm-up steps"},
    {.name = "recompute",
     .kind = OPTION_FLAG,
     .value = &settings.recompute,
     .help = "recompute the U-Net's activations (gradient checkpointing)"},
    {.name = "profile", .kind = OPTION_FLAG, .value = &settings.profile, .help = "time every op"},
    {.name = "on-request",
     .kind = OPTION_FLAG,
     .value = &settings.on_request,
     .help = "time one step for each line of stdin and print its seconds"},
    {0},
};

static const struct program program = {
    .name = "bench-fit",
    .summary = "Time training steps of a published architecture on random data.",
    .usage = "[OPTION]...",
    .options = options,
};

struct subject;

/* How one kind of network is trained. */
struct trainee {
    enum net net;
    int64_t base, batch, side; /* defaults */
    void (*architecture)(struct architecture *architecture);
    void (*open)(struct subject *s);
    void (*close)(struct subject *s);
    void (*micro_batch)(struct subject *s);
    void (*update)(struct subject *s);
    int64_t (*memory)(const struct subject *s); /* bytes */
};

struct subject {
    const struct trainee *trainee;
    struct device *device;
    struct architecture architecture;
    struct parameters *parameters;
    union {
        struct unet_step *unet;
        struct autoencoder_step *autoencoder;
        struct cloob_step *cloob;
    } step;
    float *images; /* or moments of latents */
    float *embeds;
    int32_t *tokens;
    uint64_t *samples;
    int64_t done;
};

static void judge(const struct subject *s, double loss, double gradient_norm, bool applied)
{
    if (!applied)
        die("step %" PRId64 ": loss %g, gradient norm %g", s->done, loss, gradient_norm);
}

static struct step_options step_options(struct adamw_options adamw)
{
    return (struct step_options){.seed = 1,
                                 .batch = settings.batch,
                                 .accumulate = settings.accumulate,
                                 .recompute = settings.recompute,
                                 .adamw = adamw};
}

/* The U-Net ------------------------------------------------------------------------------------ */

#define EMBED 512

static const struct unet_step_options unet_options = {.uncond_prob = 0.2, .autoencoder_scale = 1};

static void unet_tensors(struct architecture *architecture)
{
    struct unet_config config = unet_published;
    struct error e;
    config.base_channels = settings.base;
    if (unet_config_check(&config, &e) != 0)
        die_usage("%s", e.text);
    unet_architecture(architecture, &config);
}

static void unet_open(struct subject *s)
{
    size_t n = (size_t)settings.batch, moments = n * 8 * (size_t)(settings.side * settings.side);
    struct step_options o = step_options((struct adamw_options)ADAMW_DEFAULTS);
    struct error e;
    if (unet_step_open(&s->step.unet, s->parameters, collective_alone(), &o, &unet_options, &e) !=
        0)
        die("%s", e.text);
    s->images = xmalloc(moments * sizeof *s->images);
    s->embeds = xmalloc(n * EMBED * sizeof *s->embeds);
    rng_normal(s->images, moments, 1, RNG_POSTERIOR, 0, 0, 0);
    rng_normal(s->embeds, n * EMBED, 2, RNG_POSTERIOR, 0, 0, 0);
}

static void unet_close(struct subject *s)
{
    unet_step_close(s->step.unet);
}

static void unet_micro_batch(struct subject *s)
{
    struct unet_batch b = {settings.batch, settings.side, settings.side,
                           s->images,      s->embeds,     s->samples};
    unet_step_micro_batch(s->step.unet, s->done, &b);
}

static void unet_update(struct subject *s)
{
    struct step_result r;
    unet_step_update(s->step.unet, 3e-5, 0.99, &r);
    judge(s, r.loss, r.gradient_norm, r.applied);
}

static int64_t unet_memory(const struct subject *s)
{
    struct step_options o = step_options((struct adamw_options)ADAMW_DEFAULTS);
    return unet_step_memory(&s->architecture, &o, &unet_options, s->device, 1, settings.side,
                            settings.side);
}

/* The autoencoder: L1 and the posterior's divergence ------------------------------------------- */

static const struct autoencoder_step_options autoencoder_options = {.kl_weight = 1e-6};
static const struct adamw_options autoencoder_adamw = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8};

static void autoencoder_tensors(struct architecture *architecture)
{
    struct kl_config config = kl_published;
    if (settings.base % KL_NORM_GROUPS != 0 || settings.side % 8 != 0)
        die_usage("an autoencoder needs a multiple of %d base channels, and a side that 8 "
                  "divides",
                  KL_NORM_GROUPS);
    config.base_channels = settings.base;
    kl_architecture(architecture, &config);
}

static void draw_images(struct subject *s, float least)
{
    size_t count = (size_t)(settings.batch * 3 * settings.side * settings.side);
    s->images = xmalloc(count * sizeof *s->images);
    rng_uniform(s->images, count, 1, RNG_SHAPES, 0, 0, 0);
    for (size_t i = 0; i < count; i++)
        s->images[i] = least + (1 - least) * s->images[i];
}

static void autoencoder_open(struct subject *s)
{
    struct step_options o = step_options(autoencoder_adamw);
    struct error e;
    if (autoencoder_step_open(&s->step.autoencoder, s->parameters, collective_alone(), &o,
                              &autoencoder_options, &e) != 0)
        die("%s", e.text);
    draw_images(s, -1);
}

static void autoencoder_close(struct subject *s)
{
    autoencoder_step_close(s->step.autoencoder);
}

static void autoencoder_micro_batch(struct subject *s)
{
    struct autoencoder_batch b = {settings.batch, (int)settings.side, (int)settings.side, s->images,
                                  s->samples};
    autoencoder_step_micro_batch(s->step.autoencoder, s->done, &b);
}

static void autoencoder_update(struct subject *s)
{
    struct step_result r;
    autoencoder_step_update(s->step.autoencoder, 4.5e-6, 0.99, &r);
    judge(s, r.loss, r.gradient_norm, r.applied);
}

static int64_t autoencoder_memory(const struct subject *s)
{
    struct step_options o = step_options(autoencoder_adamw);
    return autoencoder_step_memory(s->parameters, &o, &autoencoder_options, s->device, 1,
                                   (int)settings.side, (int)settings.side);
}

/* CLOOB's two towers ----------------------------------------------------------------------------
 */

static const struct cloob_step_options cloob_options = {.inv_tau = CLOOB_INV_TAU,
                                                        .scale_hopfield = CLOOB_SCALE_HOPFIELD};
static const struct adamw_options cloob_adamw = {0.9, 0.98, 1e-6, 0.1};

static void cloob_tensors(struct architecture *architecture)
{
    struct cloob_config config = cloob_published;
    if (settings.base % 16 != 0 || settings.side % config.patch_size != 0)
        die_usage("CLOOB needs a base that is a multiple of 16, and a side that is one of %d",
                  (int)config.patch_size);
    if (settings.batch * settings.accumulate < 2)
        die_usage("CLOOB needs a batch of at least two pairs");
    config.image_size = settings.side;
    config.image_width = 12 * settings.base;
    config.text_width = 8 * settings.base;
    cloob_architecture(architecture, &config);
}

/* Captions of ten tokens, plus their start and end tokens. */
static void cloob_open(struct subject *s)
{
    const struct cloob_sizes *sizes;
    struct step_options o = step_options(cloob_adamw);
    struct error e;
    if (cloob_step_open(&s->step.cloob, s->parameters, collective_alone(), &o, &cloob_options,
                        &e) != 0)
        die("%s", e.text);
    sizes = cloob_step_sizes(s->step.cloob);
    s->tokens = xcalloc((size_t)(settings.batch * sizes->context), sizeof *s->tokens);
    for (int64_t i = 0; i < settings.batch; i++) {
        int32_t *text = s->tokens + i * sizes->context, last = (int32_t)sizes->vocabulary - 1;
        float words[10];
        rng_uniform(words, 10, 1, RNG_SHAPES, 1, (uint64_t)i, 0);
        text[0] = last - 1;
        for (int k = 0; k < 10; k++)
            text[k + 1] = (int32_t)(words[k] * (float)(last - 1));
        text[11] = last;
    }
    draw_images(s, 0);
}

static void cloob_close(struct subject *s)
{
    cloob_step_close(s->step.cloob);
}

static void cloob_micro_batch(struct subject *s)
{
    struct cloob_batch b = {settings.batch, s->images, s->tokens, s->samples};
    cloob_step_micro_batch(s->step.cloob, &b);
}

static void cloob_update(struct subject *s)
{
    struct step_result r;
    cloob_step_update(s->step.cloob, 1e-5, 0.99, &r);
    judge(s, r.loss, r.gradient_norm, r.applied);
}

static int64_t cloob_memory(const struct subject *s)
{
    struct step_options o = step_options(cloob_adamw);
    return cloob_step_memory(&s->architecture, &o, &cloob_options, s->device, 1, 0);
}

/* In the order of network_names. */
static const struct trainee trainees[] = {
    {NET_UNET, 64, 8, 32, unet_tensors, unet_open, unet_close, unet_micro_batch, unet_update,
     unet_memory},
    {NET_KL, 128, 1, 256, autoencoder_tensors, autoencoder_open, autoencoder_close,
     autoencoder_micro_batch, autoencoder_update, autoencoder_memory},
    {NET_CLOOB, 64, 8, 224, cloob_tensors, cloob_open, cloob_close, cloob_micro_batch, cloob_update,
     cloob_memory},
};

static void subject_init(struct subject *s)
{
    const struct trainee *t = &trainees[settings.network];
    settings.base = settings.base ? settings.base : t->base;
    settings.batch = settings.batch ? settings.batch : t->batch;
    settings.side = settings.side ? settings.side : t->side;
    *s = (struct subject){.trainee = t, .device = program_open_device()};
    if (settings.profile)
        profile_begin(s->device);
    t->architecture(&s->architecture);
    s->parameters = parameters_new(&s->architecture, t->net, 1, s->device);
    s->samples = xcalloc((size_t)settings.batch, sizeof *s->samples);
    t->open(s);
}

static void subject_release(struct subject *s)
{
    s->trainee->close(s);
    parameters_free(s->parameters);
    architecture_release(&s->architecture);
    free(s->images);
    free(s->embeds);
    free(s->tokens);
    free(s->samples);
    profile_end();
    device_close(s->device);
}

static double timed(struct subject *s)
{
    double begin = seconds_now();
    for (int64_t k = 0; k < settings.accumulate; k++) {
        for (int64_t i = 0; i < settings.batch; i++)
            s->samples[i] = (uint64_t)((s->done * settings.accumulate + k) * settings.batch + i);
        profile_phase(PHASE_FORWARD);
        s->trainee->micro_batch(s);
    }
    profile_phase(PHASE_UPDATE);
    s->trainee->update(s);
    s->done++;
    if (settings.profile) /* a step's last ops may still be running */
        device_synchronize(s->device);
    return seconds_now() - begin;
}

/* Of this program alone: getrusage also counts the memory of the process before exec. */
static long peak_rss_mib(void)
{
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib >> 10;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct subject *s)
{
    double *seconds = xmalloc((size_t)settings.runs * sizeof *seconds), sum = 0;
    profile_collect(true);
    for (int64_t i = 0; i < settings.runs; i++) {
        sum += seconds[i] = timed(s);
        profile_collect(false);
    }
    qsort(seconds, (size_t)settings.runs, sizeof *seconds, by_value);
    double median = (seconds[(settings.runs - 1) / 2] + seconds[settings.runs / 2]) / 2;
    printf("%-11s %6s %6s %6s %12s %10s %10s %10s %10s %12s %12s\n", "network", "base", "side",
           "batch", "parameters", "median-s", "min-s", "images/s", "RSS-MiB", "tensors-MiB",
           "counted-MiB");
    printf("%-11s %6" PRId64 " %6" PRId64 " %6" PRId64 " %12" PRId64
           " %10.5f %10.5f %10.2f %10ld %12zu %12" PRId64 "\n",
           network_names[settings.network], settings.base, settings.side,
           settings.batch * settings.accumulate, s->parameters->parameter_count, median, seconds[0],
           (double)(settings.batch * settings.accumulate) / median, peak_rss_mib(),
           device_memory(s->device).peak >> 20, s->trainee->memory(s) >> 20);
    if (settings.profile)
        profile_print(sum, settings.runs);
    free(seconds);
}

/* Serves requests until the end of stdin; the last line is the peak resident memory. */
static void answer_requests(struct subject *s)
{
    char line[64];
    printf("ready %" PRId64 "\n", s->parameters->parameter_count);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%.6f\n", timed(s));
        fflush(stdout);
    }
    printf("%ld\n", peak_rss_mib());
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv))
        die_usage("unexpected operand");
    threads_init((int)common_options.threads);
    struct subject s;
    subject_init(&s);
    for (int i = 0; i < 2; i++)
        timed(&s);
    if (settings.on_request)
        answer_requests(&s);
    else
        report(&s);
    subject_release(&s);
    return 0;
}
