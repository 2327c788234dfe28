/* Times whole training steps of the U-Net: noise, forward, backward, AdamW and moving average. */
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
#include "common/chosen_device.h"
#include "common/train/step.h"

#define SIDE 32

static struct {
    int64_t base, batch, accumulate, runs;
    bool recompute, profile, on_request;
} settings = {.base = 64, .batch = 8, .accumulate = 1, .runs = 5};

static const struct option options[] = {
    {"base", 0, OPTION_INT, &settings.base, "N", "base channels, multipliers 4,4,8,8", 16, 1024,
     NULL},
    {"batch", 0, OPTION_INT, &settings.batch, "N", "images of a micro-batch", 1, 4096, NULL},
    {"accumulate", 0, OPTION_INT, &settings.accumulate, "N", "micro-batches of a step", 1, 4096,
     NULL},
    {"runs", 0, OPTION_INT, &settings.runs, "N", "steps that are timed, after two", 1, 1000, NULL},
    {"recompute", 0, OPTION_FLAG, &settings.recompute, NULL, "trade time for memory", 0, 0, NULL},
    {"profile", 0, OPTION_FLAG, &settings.profile, NULL, "time every op", 0, 0, NULL},
    {"on-request", 0, OPTION_FLAG, &settings.on_request, NULL,
     "time one step for each line of stdin and print its seconds", 0, 0, NULL},
    {0},
};

static const struct program program = {
    .name = "bench-fit",
    .summary = "Time training steps of a U-Net on random data.",
    .usage = "[OPTION]...",
    .options = options,
};

/* The device's backend, with a clock around every op. */
enum op_index {
#define OP(name)          OP_##name,
#define OP_TRAINING(name) OP_##name,
#define OP_BACKWARD(name) OP_##name##_backward,
#include "kernels/ops.def"
    OP_COUNT
};
static const char *const op_names[] = {
#define OP(name)          #name,
#define OP_TRAINING(name) #name,
#define OP_BACKWARD(name) #name "_backward",
#include "kernels/ops.def"
};
static const struct backend *clocked;
static double op_seconds[OP_COUNT];
static int64_t op_calls[OP_COUNT];

#define CLOCKED(name, args)                                                                        \
    static void clocked_##name(struct device *d, const struct args *a)                             \
    {                                                                                              \
        double begin = seconds_now();                                                              \
        clocked->name(d, a);                                                                       \
        op_seconds[OP_##name] += seconds_now() - begin;                                            \
        op_calls[OP_##name]++;                                                                     \
    }
#define OP(name)          CLOCKED(name, name##_args)
#define OP_TRAINING(name) CLOCKED(name, name##_args)
#define OP_BACKWARD(name) CLOCKED(name##_backward, name##_backward_args)
#include "kernels/ops.def"

static struct backend clocks(const struct backend *b)
{
    struct backend with = *b;
    clocked = b;
#define OP(name)          with.name = clocked_##name;
#define OP_TRAINING(name) with.name = clocked_##name;
#define OP_BACKWARD(name) with.name##_backward = clocked_##name##_backward;
#include "kernels/ops.def"
    return with;
}

static void print_profile(double total, int64_t steps)
{
    double known = 0;
    printf("%-28s %8s %10s %6s\n", "op", "calls", "s a step", "%");
    for (int done = 0; done < OP_COUNT; done++) {
        int next = -1;
        for (int i = 0; i < OP_COUNT; i++)
            if (op_calls[i] && (next < 0 || op_seconds[i] > op_seconds[next]))
                next = i;
        if (next < 0)
            break;
        double seconds = op_seconds[next] / (double)steps;
        printf("%-28s %8" PRId64 " %10.4f %6.1f\n", op_names[next], op_calls[next] / steps, seconds,
               100 * seconds / total);
        known += seconds;
        op_calls[next] = 0;
    }
    printf("%-28s %8s %10.4f %6.1f\n", "outside", "", total - known, 100 * (total - known) / total);
}

struct subject {
    struct device *device;
    struct net_plan plan;
    struct bank *bank;
    struct step *step;
    float *moments, *embeds;
    uint64_t *samples;
    int64_t done;
};

static void subject_init(struct subject *s, const struct step_options *o)
{
    struct net_sizes sizes = {.latent = 4,
                              .embed = 512,
                              .unet_base = settings.base,
                              .unet_multipliers = {4, 4, 8, 8},
                              .unet_cond = UNET_COND_WIDTH,
                              .autoencoder_scale = 1};
    struct error e;
    *s = (struct subject){0};
    s->device = chosen_device();
    if (net_sizes_check_unet(&sizes, &e))
        die_usage("%s", e.text);
    plan_unet(&s->plan, &sizes);
    s->bank = bank_new(&s->plan, NET_UNET, 1, s->device);
    if (step_open(&s->step, s->bank, collective_alone(), o, &e))
        die("%s", e.text);
    size_t n = (size_t)settings.batch, moments = n * 8 * SIDE * SIDE, embeds = n * 512;
    s->moments = xmalloc(moments * sizeof *s->moments);
    s->embeds = xmalloc(embeds * sizeof *s->embeds);
    s->samples = xcalloc(n, sizeof *s->samples);
    rng_normal(s->moments, moments, 1, RNG_POSTERIOR, 0, 0, 0);
    rng_normal(s->embeds, embeds, 2, RNG_POSTERIOR, 0, 0, 0);
}

static void subject_release(struct subject *s)
{
    step_close(s->step);
    bank_free(s->bank);
    plan_release(&s->plan);
    free(s->moments);
    free(s->embeds);
    free(s->samples);
    device_close(s->device);
}

static double timed(struct subject *s)
{
    struct training_batch b = {settings.batch, SIDE, SIDE, s->moments, s->embeds, s->samples};
    struct step_result r;
    double begin = seconds_now();
    for (int64_t k = 0; k < settings.accumulate; k++) {
        for (int64_t i = 0; i < settings.batch; i++)
            s->samples[i] = (uint64_t)((s->done * settings.accumulate + k) * settings.batch + i);
        step_micro_batch(s->step, s->done, &b);
    }
    step_update(s->step, 3e-5, 0.99, &r);
    double seconds = seconds_now() - begin;
    if (!r.applied)
        die("step %" PRId64 ": loss %g, gradient norm %g", s->done, r.loss, r.gradient_norm);
    s->done++;
    return seconds;
}

/* Of this program alone: getrusage also counts what stood here before exec. */
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

static void report(struct subject *s, const struct step_options *o)
{
    double *seconds = xmalloc((size_t)settings.runs * sizeof *seconds), sum = 0;
    memset(op_seconds, 0, sizeof op_seconds);
    memset(op_calls, 0, sizeof op_calls);
    for (int64_t i = 0; i < settings.runs; i++)
        sum += seconds[i] = timed(s);
    qsort(seconds, (size_t)settings.runs, sizeof *seconds, by_value);
    double median = (seconds[(settings.runs - 1) / 2] + seconds[settings.runs / 2]) / 2;
    printf("%6s %6s %12s %10s %10s %10s %10s %12s %12s\n", "base", "batch", "parameters",
           "median s", "min s", "images/s", "RSS MiB", "tensors MiB", "counted MiB");
    printf(
        "%6" PRId64 " %6" PRId64 " %12" PRId64 " %10.3f %10.3f %10.2f %10ld %12zu %12" PRId64 "\n",
        settings.base, settings.batch * settings.accumulate, s->bank->parameters, median,
        seconds[0], (double)(settings.batch * settings.accumulate) / median, peak_rss_mib(),
        device_memory(s->device).peak >> 20, step_memory(&s->plan, o, s->device, SIDE, SIDE) >> 20);
    if (settings.profile)
        print_profile(sum / (double)settings.runs, settings.runs);
    free(seconds);
}

/* Until stdin ends; the last line is the peak of resident memory. */
static void answer_requests(struct subject *s)
{
    char line[64];
    printf("ready %" PRId64 "\n", s->bank->parameters);
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
        die_usage("no operands are expected");
    threads_init((int)common_options.threads);
    struct step_options o = {.seed = 1,
                             .batch = settings.batch,
                             .accumulate = settings.accumulate,
                             .uncond_prob = 0.2,
                             .autoencoder_scale = 1,
                             .recompute = settings.recompute,
                             .adamw = ADAMW_DEFAULTS};
    struct subject s;
    subject_init(&s, &o);
    const struct backend *plain = s.device->backend;
    struct backend with_clocks = clocks(plain);
    if (settings.profile)
        s.device->backend = &with_clocks;
    for (int i = 0; i < 2; i++)
        timed(&s);
    if (settings.on_request)
        answer_requests(&s);
    else
        report(&s, &o);
    s.device->backend = plain;
    subject_release(&s);
    return 0;
}
