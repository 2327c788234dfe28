/* Prints what a GPU would do for a training step, for sampling and for encoding: launches,
 * products, bytes, and the time that a simple model predicts from them (tests/support/work.h).
 * Measures nothing.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/diffusion/sample.h"
#include "common/encode/networks.h"
#include "common/train/network_views.h"
#include "common/train/unet_step.h"
#include "tests/support/work.h"

static const char *const work_names[] = {"train", "sample", "encode", NULL};
enum { TRAIN, SAMPLE, ENCODE };

static struct {
    int work;
    int64_t base, batch, side, accumulate, steps;
    bool recompute, tsv, launches;
} settings = {.base = 192, .batch = 0, .side = 32, .accumulate = 1, .steps = 50};

static const struct option options[] = {
    {.name = "work",
     .kind = OPTION_CHOICE,
     .value = &settings.work,
     .argument = "NAME",
     .help = "a training step, sampling with guidance, or encoding of a batch",
     .choices = work_names},
    {.name = "base",
     .kind = OPTION_INT,
     .value = &settings.base,
     .argument = "N",
     .min = 1,
     .max = 1024,
     .help = "the U-Net's base channels"},
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &settings.batch,
     .argument = "N",
     .max = 4096,
     .help = "images at once (0: 64, 4, 64)"},
    {.name = "side",
     .kind = OPTION_INT,
     .value = &settings.side,
     .argument = "N",
     .min = 8,
     .max = 1024,
     .help = "side of a latent"},
    {.name = "accumulate",
     .kind = OPTION_INT,
     .value = &settings.accumulate,
     .argument = "N",
     .min = 1,
     .max = 4096,
     .help = "micro-batches per training step"},
    {.name = "steps",
     .kind = OPTION_INT,
     .value = &settings.steps,
     .argument = "N",
     .min = 1,
     .max = 1000,
     .help = "sampling steps"},
    {.name = "recompute",
     .kind = OPTION_FLAG,
     .value = &settings.recompute,
     .help = "recompute activations (gradient checkpointing)"},
    {.name = "tsv",
     .kind = OPTION_FLAG,
     .value = &settings.tsv,
     .help = "print lines of title, class, launches, TFLOP, GB and ms, with tabs"},
    {.name = "launches",
     .kind = OPTION_FLAG,
     .value = &settings.launches,
     .help = "list each op and kernel instead of classes"},
    {0},
};

static const struct program program = {
    .name = "count",
    .summary = "Count a GPU's launches, products and bytes, and model their time. Needs no GPU.",
    .usage = "[OPTION]...",
    .options = options,
};

static double print(const struct device *d, const char *title, int rounds)
{
    return work_print(stdout,
                      settings.tsv        ? WORK_TSV
                      : settings.launches ? WORK_LAUNCHES
                                          : WORK_TABLE,
                      d, title, rounds);
}

static void print_rate(const char *title, double seconds, double images)
{
    printf(settings.tsv ? "%s\timages/s\t\t\t\t%.1f\n" : "%s: %.1f images/s by the model\n\n",
           title, images / seconds);
}

static void unet_tensors(struct architecture *a)
{
    struct unet_config config = unet_published;
    struct error e;
    config.base_channels = settings.base;
    if (unet_config_check(&config, &e) != 0)
        die_usage("%s", e.text);
    unet_architecture(a, &config);
}

/* A network of this architecture with weights that have been converted once. */
static struct network_view open_network(struct parameters **p, struct architecture *a, enum net net,
                                        const struct network_functions *functions, struct device *d)
{
    struct network_view v = {0};
    struct error e;
    *p = parameters_empty(a, net, d);
    if (network_view_open(&v, functions, *p, ARRAY_WEIGHTS, &e) != 0)
        die("%s", e.text);
    loader_refresh(network_view_loader(&v));
    architecture_release(a);
    return v;
}

#define ROUNDS 2

static void train_once(struct unet_step *s, const struct unet_batch *b, int64_t step)
{
    struct step_result r;
    for (int64_t k = 0; k < settings.accumulate; k++)
        unet_step_micro_batch(s, step, b);
    unet_step_update(s, 1e-5, 0.99, &r);
    CHECK(r.applied);
}

/* The second and third step, when all memory is allocated: every other one leaves EMA alone. */
static void count_training(struct device *d)
{
    struct architecture a = {0};
    struct unet_step_options u = {.uncond_prob = 0.2, .autoencoder_scale = 1};
    struct step_options o = {.seed = 1,
                             .batch = settings.batch,
                             .accumulate = settings.accumulate,
                             .recompute = settings.recompute,
                             .adamw = ADAMW_DEFAULTS};
    struct unet_step *s;
    struct error e;
    char title[128];
    unet_tensors(&a);
    struct parameters *p = parameters_empty(&a, NET_UNET, d);
    if (unet_step_open(&s, p, collective_alone(), &o, &u, &e) != 0)
        die("%s", e.text);
    size_t n = (size_t)settings.batch, side = (size_t)settings.side;
    const struct unet_sizes *sizes = unet_step_sizes(s);
    float *moments = xcalloc(n * 2 * (size_t)sizes->latent_channels * side * side, sizeof *moments);
    float *embeds = xcalloc(n * (size_t)sizes->embed_width, sizeof *embeds);
    uint64_t *samples = xcalloc(n, sizeof *samples);
    struct unet_batch b = {settings.batch, settings.side, settings.side, moments, embeds, samples};
    train_once(s, &b, 0);
    work_begin();
    for (int64_t step = 1; step <= ROUNDS; step++)
        train_once(s, &b, step);
    snprintf(title, sizeof title, "training step, base %" PRId64 ", batch %" PRId64 "%s, %s",
             settings.base, settings.batch * settings.accumulate,
             settings.recompute ? ", recomputing" : "", device_precision(d));
    print_rate(title, print(d, title, ROUNDS), (double)(settings.batch * settings.accumulate));
    unet_step_close(s);
    parameters_free(p);
    architecture_release(&a);
    free(moments);
    free(embeds);
    free(samples);
}

static int drop_image(void *context, const struct image *image, int conditioning, int64_t index,
                      struct error *e)
{
    return 0;
}

static void count_sampling(struct device *d)
{
    struct architecture a[3] = {{0}};
    struct parameters *p[3];
    unet_tensors(&a[0]);
    kl_architecture(&a[1], &kl_published);
    cloob_architecture(&a[2], &cloob_published);
    struct network_view unet = open_network(&p[0], &a[0], NET_UNET, &unet_network, d);
    struct network_view kl = open_network(&p[1], &a[1], NET_KL, &kl_network, d);
    struct network_view cloob = open_network(&p[2], &a[2], NET_CLOOB, &cloob_network, d);
    struct sample_options o = {.method = SAMPLER_PLMS,
                               .steps = (int)settings.steps,
                               .count = settings.batch,
                               .height = 8 * (int)settings.side,
                               .width = 8 * (int)settings.side,
                               .guidance_start = 1,
                               .autoencoder_scale = 1,
                               .batch_size = (int)settings.batch};
    struct conditionings c = {0};
    struct string_list no_images = {0};
    struct tape t;
    struct error e;
    char title[128];
    tape_init(&t, d);
    work_begin();
    if (conditionings_add(&c, 1, (const char *const[]){"a red circle"}, &no_images, 3, &e) != 0 ||
        conditionings_embed(&c, &t, cloob.network, "cloob", &e) != 0 ||
        sample_run(&t, &o, unet.network, kl.network, &c, drop_image, NULL, &e) != 0)
        die("%s", e.text);
    snprintf(title, sizeof title,
             "%" PRId64 " images of %dx%d, %" PRId64 " steps of plms, guided, base %" PRId64 ", %s",
             settings.batch, o.height, o.width, settings.steps, settings.base, device_precision(d));
    print_rate(title, print(d, title, 1), (double)settings.batch);
    conditionings_release(&c);
    tape_release(&t);
    network_view_release(&unet);
    network_view_release(&kl);
    network_view_release(&cloob);
    for (int i = 0; i < 3; i++)
        parameters_free(p[i]);
}

static void count_encoding(struct device *d)
{
    struct architecture a[2] = {{0}};
    struct parameters *p[2];
    kl_architecture(&a[0], &kl_published);
    cloob_architecture(&a[1], &cloob_published);
    struct network_view kl = open_network(&p[0], &a[0], NET_KL, &kl_network, d);
    struct network_view cloob = open_network(&p[1], &a[1], NET_CLOOB, &cloob_network, d);
    struct model model = {.kl = kl.network, .cloob = cloob.network};
    int n = (int)settings.batch, pixels = 8 * (int)settings.side, side = 224;
    struct encode_networks networks = {
        .model = &model, .height = pixels, .width = pixels, .side = side, .embed_dtype = DTYPE_F16};
    struct shard_info info = {.embed_size = 512};
    struct encoder encoder;
    struct error e;
    char title[128];
    tape_init(&networks.tape, d);
    encode_networks_encoder(&encoder, &networks, &info);
    size_t planes = (size_t)n * 3;
    float *images = xcalloc(planes * (size_t)(pixels * pixels), sizeof *images);
    float *squares = xcalloc(planes * (size_t)(side * side), sizeof *squares);
    float *moments =
        xcalloc((size_t)n * 8 * (size_t)(settings.side * settings.side), sizeof *moments);
    float *embeds = xcalloc((size_t)n * 512, sizeof *embeds);
    for (int i = 0; i < 2; i++) {
        work_begin();
        if (encoder.load(encoder.context, n, images, squares, &e) != 0 ||
            encoder.run(encoder.context, &e) != 0 ||
            encoder.fetch(encoder.context, moments, embeds, &e) != 0)
            die("%s", e.text);
    }
    snprintf(title, sizeof title, "%d images of %dx%d encoded, %s", n, pixels, pixels,
             device_precision(d));
    print_rate(title, print(d, title, 1), n);
    encode_networks_release(&networks);
    tape_release(&networks.tape);
    network_view_release(&kl);
    network_view_release(&cloob);
    for (int i = 0; i < 2; i++)
        parameters_free(p[i]);
    free(images);
    free(squares);
    free(moments);
    free(embeds);
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv))
        die_usage("unexpected operand");
    if (settings.batch == 0)
        settings.batch = settings.work == SAMPLE ? 4 : 64;
    const char *precision = common_options.precision;
    struct device *d = work_open(argv[0], precision, common_options.tf32);
    if (settings.work == TRAIN)
        count_training(d);
    else if (settings.work == SAMPLE)
        count_sampling(d);
    else
        count_encoding(d);
    device_close(d);
    return 0;
}
