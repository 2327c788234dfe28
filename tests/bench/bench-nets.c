/* Times the forward passes of the three networks at their published sizes, with synthetic weights.
 * Each item runs in its own process, so that its peak memory is its own. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "common/diffusion/sample.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "common/program/device.h"
#include "kernels/replay.h"
#include "tests/support/op_work.h"
#include "tests/support/synth.h"
#include "tests/support/synth_nets.h"

static struct settings {
    int item;
    int64_t runs, batch, steps;
    bool on_request;
} settings = {.runs = 5, .steps = 50};

enum item {
    ITEM_ALL,
    UNET_1,
    UNET_4,
    UNET_64,
    KL_ENCODE,
    KL_DECODE,
    CLOOB_4,
    ENCODE,
    SAMPLE,
    ITEM_COUNT
};
static const char *const item_names[] = {"all",       "unet-1",  "unet-4", "unet-64", "kl-encode",
                                         "kl-decode", "cloob-4", "encode", "sample",  NULL};
/* Numbers of images; items that take minutes on a CPU run there only on request. */
static const struct {
    int64_t images;
    bool large;
} items[ITEM_COUNT] = {[UNET_1] = {1, false},    [UNET_4] = {4, false},    [UNET_64] = {64, true},
                       [KL_ENCODE] = {1, false}, [KL_DECODE] = {1, false}, [CLOOB_4] = {4, false},
                       [ENCODE] = {32, true},    [SAMPLE] = {4, true}};

static const struct option options[] = {
    {.name = "item",
     .kind = OPTION_CHOICE,
     .value = &settings.item,
     .argument = "NAME",
     .help = "what to time",
     .choices = item_names},
    {.name = "runs",
     .kind = OPTION_INT,
     .value = &settings.runs,
     .argument = "N",
     .min = 1,
     .max = 1000,
     .help = "timed runs of each item, after one warm-up run"},
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &settings.batch,
     .argument = "N",
     .max = 4096,
     .help = "images per run (0: the item's own number)"},
    {.name = "steps",
     .kind = OPTION_INT,
     .value = &settings.steps,
     .argument = "N",
     .min = 2,
     .max = 1000,
     .help = "sampling steps"},
    {.name = "on-request",
     .kind = OPTION_FLAG,
     .value = &settings.on_request,
     .help = "do one run for each line of stdin and print its seconds"},
    {0},
};

static const struct program program = {
    .name = "bench-nets",
    .summary = "Time the networks at their published sizes on synthetic weights.",
    .usage = "[OPTION]...",
    .options = options,
};

/* Counts multiplications: the backend's table with counters in front of these ops. */
static const struct backend *counted_backend;
static double flops;

static void count_conv2d(struct device *d, const struct conv2d_args *a)
{
    flops += conv2d_flops(a);
    counted_backend->conv2d(d, a);
}

static void count_linear(struct device *d, const struct linear_args *a)
{
    flops += linear_flops(a);
    counted_backend->linear(d, a);
}

static void count_attention(struct device *d, const struct attention_args *a)
{
    flops += attention_flops(a);
    counted_backend->attention(d, a);
}

/* Networks with their input. */
struct subject {
    enum item item;
    int64_t n;
    struct device *device;
    struct tape tape;
    struct source {
        struct architecture architecture;
        struct named_weights names;
        void *memory;
    } sources[NET_CLOOB + 1];
    struct unet *unet;
    struct kl *kl;
    struct cloob *cloob;
    struct tensor *x, *time, *embed, *rgb; /* inputs, as an item needs them */
    struct tensor *outputs[2];
    struct replay *replay;
    struct conditionings conditionings;
    int64_t images; /* produced by sampling */
};

static const struct named_weights *synthetic_weights(struct subject *s, enum net net, float gain)
{
    struct source *from = &s->sources[net];
    if (net == NET_UNET)
        unet_architecture(&from->architecture, &unet_published);
    else if (net == NET_KL)
        kl_architecture(&from->architecture, &kl_published);
    else
        cloob_architecture(&from->architecture, &cloob_published);
    enum dtype dtype = s->device->host_memory ? s->device->compute : DTYPE_F32; /* as stored */
    synth_named_weights(&from->names, &from->memory, &from->architecture, net, dtype, 1, gain);
    return &from->names;
}

static void check_loaded(int status, const struct error *e)
{
    if (status != 0)
        die("cannot load synthetic weights: %s", e->text);
}

static struct tensor *synthetic(struct device *d, const char *name, int ndim, const int64_t *shape,
                                double scale)
{
    size_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= (size_t)shape[i];
    float *values = xmalloc(n * sizeof *values);
    synth_data(values, n, name, 1, scale);
    struct tensor *t = tensor_from_f32(d, ndim, shape, values);
    free(values);
    return t;
}

#define GUIDANCE 3

static bool one_of(enum item item, enum item a, enum item b, enum item c, enum item d)
{
    return item == a || item == b || item == c || item == d;
}

static void load_networks(struct subject *s)
{
    struct device *d = s->device;
    struct error e;
    if (one_of(s->item, UNET_1, UNET_4, UNET_64, SAMPLE))
        check_loaded(unet_load(&s->unet, synthetic_weights(s, NET_UNET, SYNTH_UNET_GAIN), d, &e),
                     &e);
    if (one_of(s->item, KL_ENCODE, KL_DECODE, ENCODE, SAMPLE))
        check_loaded(kl_load(&s->kl, synthetic_weights(s, NET_KL, 1), d, &e), &e);
    if (s->item == CLOOB_4 || s->item == ENCODE)
        check_loaded(cloob_load(&s->cloob, synthetic_weights(s, NET_CLOOB, 1), d, &e), &e);
}

static void make_inputs(struct subject *s)
{
    struct device *d = s->device;
    int64_t n = s->n;
    if (one_of(s->item, UNET_1, UNET_4, UNET_64, UNET_64)) {
        s->x = synthetic(d, "x", DIMS(n, 4, 32, 32), SYNTH_DATA_SCALE);
        s->time = synthetic(d, "time", DIMS(n), 0.5);
        s->embed = synthetic(d, "embed", DIMS(n, 512), SYNTH_DATA_SCALE);
    } else if (s->item == KL_DECODE) {
        s->x = synthetic(d, "z", DIMS(n, 4, 32, 32), SYNTH_DATA_SCALE);
    } else if (s->item == KL_ENCODE || s->item == ENCODE) {
        s->x = synthetic(d, "image", DIMS(n, 3, 256, 256), 1);
    }
    if (s->item == CLOOB_4 || s->item == ENCODE)
        s->rgb = synthetic(d, "rgb", DIMS(n, 3, 224, 224), 0.5);
}

/* One image's text prompt, with guidance. */
static void make_conditionings(struct conditionings *c)
{
    const char *text = "a";
    const struct string_list no_images = {0};
    struct error e;
    if (conditionings_add(c, 1, &text, &no_images, GUIDANCE, &e) != 0)
        die("%s", e.text);
    c->items[0].embeds = xmalloc(512 * sizeof(float));
    synth_data(c->items[0].embeds, 512, "embed", 1, SYNTH_DATA_SCALE / sqrt(512));
}

static void keep_output(struct subject *s, int i, struct tensor *y)
{
    if (!s->outputs[i])
        s->outputs[i] = tensor_new(s->device, y->dtype, y->ndim, y->shape);
    tensor_copy(s->outputs[i], y);
    tensor_release(y);
}

/* A replay_function. */
static void forward(struct tape *t, void *context)
{
    struct subject *s = context;
    if (s->unet)
        keep_output(s, 0, unet_forward(t, s->unet, s->x, s->time, s->embed));
    else if (s->kl && s->item == KL_DECODE)
        keep_output(s, 0, kl_decode(t, s->kl, s->x));
    else if (s->kl)
        keep_output(s, 0, kl_encode(t, s->kl, s->x));
    if (s->cloob)
        keep_output(s, 1, cloob_image(t, s->cloob, s->rgb));
}

static void subject_init(struct subject *s, enum item item)
{
    *s = (struct subject){.item = item, .n = settings.batch ? settings.batch : items[item].images};
    s->device = program_open_device();
    tape_init(&s->tape, s->device);
    load_networks(s);
    make_inputs(s);
    if (item == SAMPLE)
        make_conditionings(&s->conditionings);
    s->replay = replay_new(&s->tape, forward, s);
}

static void subject_release(struct subject *s)
{
    replay_free(s->replay);
    conditionings_release(&s->conditionings);
    tensor_release(s->x);
    tensor_release(s->time);
    tensor_release(s->embed);
    tensor_release(s->rgb);
    tensor_release(s->outputs[0]);
    tensor_release(s->outputs[1]);
    unet_free(s->unet);
    kl_free(s->kl);
    cloob_free(s->cloob);
    for (int i = 0; i <= NET_CLOOB; i++) {
        free(s->sources[i].names.items);
        free(s->sources[i].memory);
        free(s->sources[i].architecture.items);
    }
    tape_release(&s->tape);
    device_close(s->device);
}

static int count_image(void *context, const struct image *image, int conditioning, int64_t index,
                       struct error *e)
{
    ((struct subject *)context)->images++;
    return 0;
}

/* From noise to pixels, as in ccld-plms. */
static void sample(struct subject *s)
{
    struct sample_options o = {.method = SAMPLER_PLMS,
                               .schedule = SCHEDULE_SPLICED,
                               .steps = (int)settings.steps,
                               .seed = 1,
                               .count = s->n,
                               .guidance_start = 1,
                               .batch_size = (int)s->n,
                               .height = 256,
                               .width = 256,
                               .autoencoder_scale = 8};
    struct error e;
    if (sample_run(&s->tape, &o, s->unet, s->kl, &s->conditionings, count_image, s, &e) != 0)
        die("%s", e.text);
    CHECK(s->images % s->n == 0 && s->images > 0);
}

static void check_finite(const struct subject *s, const struct tensor *y)
{
    float *host = xmalloc((size_t)tensor_count(y) * sizeof *host);
    tensor_to_f32(y, host);
    for (int64_t i = 0; i < tensor_count(y); i++)
        if (!(host[i] - host[i] == 0))
            die("%s: element %" PRId64 " of the output is %g", item_names[s->item], i, host[i]);
    free(host);
}

/* Seconds of one run, until the device has finished. */
static double timed(struct subject *s)
{
    device_synchronize(s->device);
    double begin = seconds_now();
    if (s->item == SAMPLE)
        sample(s);
    else
        replay_run(s->replay);
    device_synchronize(s->device);
    double seconds = seconds_now() - begin;
    for (int i = 0; i < 2; i++)
        if (s->outputs[i])
            check_finite(s, s->outputs[i]);
    return seconds;
}

static void warm_up(struct subject *s)
{
    struct backend counting = *s->device->backend;
    counting.conv2d = count_conv2d;
    counting.linear = count_linear;
    counting.attention = count_attention;
    counted_backend = s->device->backend;
    s->device->backend = &counting;
    timed(s);
    s->device->backend = counted_backend;
    if (s->item == SAMPLE)
        flops = 0;                        /* replayed work is not counted */
    if (s->device->backend->record_begin) /* the second run is recorded */
        for (int i = 0; i < 3; i++)
            timed(s);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct subject *s)
{
    double *seconds = xmalloc((size_t)settings.runs * sizeof *seconds);
    for (int64_t i = 0; i < settings.runs; i++)
        seconds[i] = timed(s);
    qsort(seconds, (size_t)settings.runs, sizeof *seconds, by_value);
    double median = (seconds[(settings.runs - 1) / 2] + seconds[settings.runs / 2]) / 2;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%-10s %6" PRId64 " %10.4f %10.4f %10.2f %10.1f %10.1f %10ld %12zu\n",
           item_names[s->item], s->n, median, seconds[0], (double)s->n / median, flops * 1e-9,
           flops / median * 1e-9, usage.ru_maxrss >> 10, device_memory(s->device).peak >> 20);
    free(seconds);
}

static void answer_requests(struct subject *s)
{
    char line[64];
    struct sampler_options plms = {.method = SAMPLER_PLMS, .count = (int)settings.steps};
    printf("ready %.0f %d\n", flops, s->item == SAMPLE ? sampler_evaluations(&plms) : 1);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        printf("%.6f\n", timed(s));
        fflush(stdout);
    }
}

static void run_item(enum item item)
{
    struct subject s;
    threads_init((int)common_options.threads);
    flops = 0;
    subject_init(&s, item);
    warm_up(&s);
    if (settings.on_request)
        answer_requests(&s);
    else
        report(&s);
    subject_release(&s);
}

static int run_item_in_child(enum item item)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("cannot start a process for %s", item_names[item]);
    if (child == 0) {
        run_item(item);
        fflush(stdout);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        warn("%s ended by a signal", item_names[item]);
        return 1;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv))
        die_usage("unexpected operand");
    if (settings.on_request) {
        if (settings.item == ITEM_ALL)
            die_usage("--on-request needs one --item");
        run_item((enum item)settings.item);
        return 0;
    }
    int status = 0;
    bool gpu =
        !strncmp(common_options.device, "cuda", 4); /* only an item's own process may open it */
    printf("%-10s %6s %10s %10s %10s %10s %10s %10s %12s\n", "item", "images", "median-s", "min-s",
           "images/s", "GFLOP", "GFLOP/s", "RSS-MiB", "tensors-MiB");
    for (enum item item = UNET_1; item < ITEM_COUNT; item++)
        if (settings.item == ITEM_ALL ? gpu || !items[item].large
                                      : (enum item)settings.item == item)
            status |= run_item_in_child(item);
    return status;
}
