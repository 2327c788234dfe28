/* Times the three networks at their published sizes, with weights made by a formula, in process:
 * nothing but the forward pass is measured. Each item runs in a process of its own, so that its
 * peak of memory is its own. */
#include <inttypes.h>
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
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "tests/support/synth.h"
#include "tests/support/synth_nets.h"

static struct settings {
    int item;
    int64_t runs;
    bool on_request;
} settings = {.runs = 5};

enum item { ITEM_ALL, UNET_1, UNET_4, KL_ENCODE, KL_DECODE, CLOOB_4, ITEM_COUNT };
static const char *const item_names[] = {"all",       "unet-1",  "unet-4", "kl-encode",
                                         "kl-decode", "cloob-4", NULL};

static const struct option options[] = {
    {"item", 0, OPTION_CHOICE, &settings.item, "NAME", "what to time", 0, 0, item_names},
    {"runs", 0, OPTION_INT, &settings.runs, "N", "timed runs of each, after one to warm up", 1,
     1000, NULL},
    {"on-request", 0, OPTION_FLAG, &settings.on_request, NULL,
     "one run for every line of input, answered by its seconds", 0, 0, NULL},
    {0},
};

static const struct program program = {
    .name = "bench-nets",
    .summary = "Time the networks at their published sizes on synthetic weights.",
    .usage = "[OPTION]...",
    .options = options,
};

/* Counts what the networks multiply: the backend's table with a counter before these ops. */
static const struct backend *counted_backend;
static double flops;

static void count_conv2d(struct device *d, const struct conv2d_args *a)
{
    flops += 2.0 * (double)(tensor_count(a->weight) * tensor_rows(a->y));
    counted_backend->conv2d(d, a);
}

static void count_linear(struct device *d, const struct linear_args *a)
{
    flops += 2.0 * (double)(tensor_count(a->weight) * tensor_rows(a->y));
    counted_backend->linear(d, a);
}

static void count_attention(struct device *d, const struct attention_args *a)
{
    flops += 4.0 * (double)(a->n * a->s * a->s * a->heads * a->d);
    counted_backend->attention(d, a);
}

/* A network with its input. */
struct subject {
    enum item item;
    struct device *device;
    struct tape tape;
    struct net_plan plan;
    struct named_weights names;
    float *memory;
    struct unet *unet;
    struct kl *kl;
    struct cloob *cloob;
    struct tensor *x, *time, *embed;
};

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

static void subject_init(struct subject *s, enum item item)
{
    struct error e;
    int failed;
    *s = (struct subject){.item = item};
    if (device_open(&s->device, common_options.device, &e))
        die("cannot open device '%s': %s", common_options.device, e.text);
    tape_init(&s->tape, s->device);
    int64_t n = item == UNET_4 || item == CLOOB_4 ? 4 : 1;
    if (item == UNET_1 || item == UNET_4) {
        plan_unet(&s->plan, &net_sizes_published);
        synth_named_weights(&s->names, &s->memory, &s->plan, NET_UNET, 1, SYNTH_UNET_GAIN);
        failed = unet_load(&s->unet, &s->names, s->device, &e);
        s->x = synthetic(s->device, "x", DIMS(n, 4, 32, 32), SYNTH_DATA_SCALE);
        s->time = synthetic(s->device, "time", DIMS(n), 0.5);
        s->embed = synthetic(s->device, "embed", DIMS(n, 512), SYNTH_DATA_SCALE);
    } else if (item == CLOOB_4) {
        plan_cloob(&s->plan, &net_sizes_published);
        synth_named_weights(&s->names, &s->memory, &s->plan, NET_CLOOB, 1, 1);
        failed = cloob_load(&s->cloob, &s->names, s->device, &e);
        s->x = synthetic(s->device, "rgb", DIMS(n, 3, 224, 224), 0.5);
    } else {
        plan_kl(&s->plan, &net_sizes_published);
        synth_named_weights(&s->names, &s->memory, &s->plan, NET_KL, 1, 1);
        failed = kl_load(&s->kl, &s->names, s->device, &e);
        s->x = item == KL_ENCODE ? synthetic(s->device, "image", DIMS(n, 3, 256, 256), 1)
                                 : synthetic(s->device, "z", DIMS(n, 4, 32, 32), SYNTH_DATA_SCALE);
    }
    if (failed)
        die("cannot load synthetic weights: %s", e.text);
}

static void subject_release(struct subject *s)
{
    tensor_release(s->x);
    tensor_release(s->time);
    tensor_release(s->embed);
    unet_free(s->unet);
    kl_free(s->kl);
    cloob_free(s->cloob);
    free(s->names.items);
    free(s->memory);
    free(s->plan.items);
    tape_release(&s->tape);
    device_close(s->device);
}

static struct tensor *forward(struct subject *s)
{
    switch (s->item) {
    case UNET_1:
    case UNET_4:
        return unet_forward(&s->tape, s->unet, s->x, s->time, s->embed);
    case KL_ENCODE:
        return kl_encode(&s->tape, s->kl, s->x);
    case KL_DECODE:
        return kl_decode(&s->tape, s->kl, s->x);
    default:
        return cloob_image(&s->tape, s->cloob, s->x);
    }
}

/* Seconds of one forward pass, until the result is in host memory. */
static double timed(struct subject *s)
{
    double begin = seconds_now();
    struct tensor *y = forward(s);
    float *host = xmalloc((size_t)tensor_count(y) * sizeof *host);
    tensor_to_f32(y, host);
    double seconds = seconds_now() - begin;
    for (int64_t i = 0; i < tensor_count(y); i++)
        if (!(host[i] - host[i] == 0))
            die("%s: element %" PRId64 " of the output is %g", item_names[s->item], i, host[i]);
    free(host);
    tensor_release(y);
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
    printf("%-10s %10.3f %10.3f %10.1f %10.1f %10ld %12zu\n", item_names[s->item], median,
           seconds[0], flops * 1e-9, flops / median * 1e-9, usage.ru_maxrss >> 10,
           device_memory(s->device).peak >> 20);
    free(seconds);
}

static void answer_requests(struct subject *s)
{
    char line[64];
    printf("ready %.0f\n", flops);
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
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv))
        die_usage("no operands are expected");
    if (settings.on_request) {
        if (settings.item == ITEM_ALL)
            die_usage("--on-request wants one --item");
        run_item((enum item)settings.item);
        return 0;
    }
    int failed = 0;
    printf("%-10s %10s %10s %10s %10s %10s %12s\n", "item", "median s", "min s", "GFLOP", "GFLOP/s",
           "RSS MiB", "tensors MiB");
    for (enum item item = UNET_1; item < ITEM_COUNT; item++)
        if (settings.item == ITEM_ALL || (enum item)settings.item == item)
            failed |= run_item_in_child(item);
    return failed;
}
