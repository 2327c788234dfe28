#include "tests/support/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "tests/support/op_classes.h"
#include "tests/support/op_work.h"

enum op_index {
#define OP(name)          OP_##name,
#define OP_TRAINING(name) OP_##name,
#define OP_BACKWARD(name) OP_##name##_backward,
#include "kernels/ops.def"
    OP_convert_weights,
    OP_COUNT
};

static const struct {
    const char *name;
    bool backward; /* what starts the backward phase */
} ops[OP_COUNT] = {
#define OP(name)          {#name, false},
#define OP_TRAINING(name) {#name, false},
#define OP_BACKWARD(name) {#name "_backward", true},
#include "kernels/ops.def"
    {"convert_weights", false},
};
/* By name, so that ops come and go without this table. */
static const struct {
    const char *op;
    enum op_class class;
} classes[] = {
    {"conv2d", CONV_FORWARD},
    {"linear", LINEAR_FORWARD},
    {"attention", ATTENTION_FORWARD},
    {"attention_backward", ATTENTION_BACKWARD},
    {"group_norm", GROUP_NORM_FORWARD},
    {"group_norm_backward", GROUP_NORM_BACKWARD},
    {"add", ADD},
    {"concat", CONCAT_POOL_UPSAMPLE},
    {"concat_backward", CONCAT_POOL_UPSAMPLE},
    {"avg_pool2x2", CONCAT_POOL_UPSAMPLE},
    {"avg_pool2x2_backward", CONCAT_POOL_UPSAMPLE},
    {"upsample_nearest2x", CONCAT_POOL_UPSAMPLE},
    {"upsample_nearest2x_backward", CONCAT_POOL_UPSAMPLE},
    {"upsample_bilinear2x", CONCAT_POOL_UPSAMPLE},
    {"upsample_bilinear2x_backward", CONCAT_POOL_UPSAMPLE},
    {"square_sums", SUM_OF_SQUARES},
    {"adamw", ADAMW_EMA},
    {"moving_average", ADAMW_EMA},
    {"update", ADAMW_EMA},
    {"convert_weights", WEIGHT_CONVERSION},
};
static const char *const phase_names[PHASE_COUNT] = {"forward", "backward", "update"};
static const char *const part_names[PART_COUNT] = {"-", "dx", "dw", "sum", "bias"};

enum { KEYS = OP_COUNT * PHASE_COUNT, OUTSIDE = KEYS };

static struct {
    struct device *device;
    const struct backend *plain;
    struct backend with_clocks;
    enum profile_phase phase;
    int depth; /* of ops within ops */
    double seconds[KEYS + 1][PART_COUNT];
    int64_t calls[KEYS];
    double flops[OP_CLASS_COUNT];
} profile;

/* Of plain C, update is built from other ops: only what the network calls counts. */
static double begin_op(struct device *d, enum op_index op)
{
    if (profile.depth++ > 0)
        return 0;
    if (profile.phase == PHASE_FORWARD && ops[op].backward)
        profile.phase = PHASE_BACKWARD;
    if (profile.plain->lap)
        profile.plain->lap(d, OUTSIDE);
    return seconds_now();
}

static void end_op(struct device *d, enum op_index op, double begin)
{
    int key = (int)op * PHASE_COUNT + (int)profile.phase;
    if (--profile.depth > 0)
        return;
    if (profile.plain->lap)
        profile.plain->lap(d, key);
    else
        profile.seconds[key][PART_OTHER] += seconds_now() - begin;
    profile.calls[key]++;
}

#define CLOCKED(name, args)                                                                        \
    static void clocked_##name(struct device *d, const struct args *a)                             \
    {                                                                                              \
        double begin = begin_op(d, OP_##name);                                                     \
        profile.plain->name(d, a);                                                                 \
        end_op(d, OP_##name, begin);                                                               \
    }
#define OP(name)          CLOCKED(name, name##_args)
#define OP_TRAINING(name) CLOCKED(name, name##_args)
#define OP_BACKWARD(name) CLOCKED(name##_backward, name##_backward_args)
#include "kernels/ops.def"
CLOCKED(convert_weights, convert_weights_args)

static void counted_conv2d(struct device *d, const struct conv2d_args *a)
{
    profile.flops[CONV_FORWARD] += conv2d_flops(a);
    clocked_conv2d(d, a);
}

static void counted_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    profile.flops[CONV_DGRAD] += a->dx ? conv2d_flops(&a->forward) : 0;
    profile.flops[CONV_WGRAD] += a->dweight ? conv2d_flops(&a->forward) : 0;
    clocked_conv2d_backward(d, a);
}

static void counted_linear(struct device *d, const struct linear_args *a)
{
    profile.flops[LINEAR_FORWARD] += linear_flops(a);
    clocked_linear(d, a);
}

static void counted_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    profile.flops[LINEAR_DX] += a->dx ? linear_flops(&a->forward) : 0;
    profile.flops[LINEAR_DW] += a->dweight ? linear_flops(&a->forward) : 0;
    clocked_linear_backward(d, a);
}

static void counted_attention(struct device *d, const struct attention_args *a)
{
    profile.flops[ATTENTION_FORWARD] += attention_flops(a);
    clocked_attention(d, a);
}

/* Scores again, then the gradients of weights, values, queries and keys. */
static void counted_attention_backward(struct device *d, const struct attention_backward_args *a)
{
    profile.flops[ATTENTION_BACKWARD] += 2.5 * attention_flops(&a->forward);
    clocked_attention_backward(d, a);
}

void profile_begin(struct device *d)
{
    CHECK(!profile.device);
    profile.device = d;
    profile.plain = d->backend;
    struct backend *with = &profile.with_clocks;
    *with = *d->backend;
#define OP(name)          with->name = clocked_##name;
#define OP_TRAINING(name) with->name = clocked_##name;
#define OP_BACKWARD(name) with->name##_backward = clocked_##name##_backward;
#include "kernels/ops.def"
    with->conv2d = counted_conv2d;
    with->conv2d_backward = counted_conv2d_backward;
    with->linear = counted_linear;
    with->linear_backward = counted_linear_backward;
    with->attention = counted_attention;
    with->attention_backward = counted_attention_backward;
    if (with->convert_weights)
        with->convert_weights = clocked_convert_weights;
    with->record_begin = NULL;
    d->backend = with;
}

void profile_phase(enum profile_phase phase)
{
    profile.phase = phase;
}

void profile_collect(bool clear)
{
    if (!profile.device)
        return;
    if (profile.plain->laps)
        profile.plain->laps(profile.device, profile.seconds);
    if (clear) {
        memset(profile.seconds, 0, sizeof profile.seconds);
        memset(profile.calls, 0, sizeof profile.calls);
        memset(profile.flops, 0, sizeof profile.flops);
    }
}

static enum op_class class_of(int op, int part)
{
    bool conv = op == OP_conv2d_backward;
    if (conv || op == OP_linear_backward)
        return part == PART_INPUT_GRADIENT    ? conv ? CONV_DGRAD : LINEAR_DX
               : part == PART_WEIGHT_GRADIENT ? conv ? CONV_WGRAD : LINEAR_DW
               : part == PART_WEIGHT_SUM      ? WGRAD_SUM
               : part == PART_BIAS_GRADIENT   ? BIAS_GRADIENTS
                                              : OTHER;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (!strcmp(classes[i].op, ops[op].name))
            return classes[i].class;
    return OTHER;
}

static void print_row(int key, int part, double total, int64_t steps)
{
    double seconds = profile.seconds[key][part];
    printf("%-30s %-9s %-5s %8.1f %10.4f %6.1f\n", ops[key / PHASE_COUNT].name,
           phase_names[key % PHASE_COUNT], part_names[part],
           (double)profile.calls[key] / (double)steps, 1e3 * seconds / (double)steps,
           100 * seconds / total);
}

static bool next_row(const bool (*printed)[PART_COUNT], int *key, int *part)
{
    *key = -1;
    for (int k = 0; k < KEYS; k++)
        for (int p = 0; p < PART_COUNT; p++)
            if (!printed[k][p] && profile.seconds[k][p] > 0 &&
                (*key < 0 || profile.seconds[k][p] > profile.seconds[*key][*part])) {
                *key = k;
                *part = p;
            }
    return *key >= 0;
}

/* The longest first. Returns the seconds of all ops. */
static double print_ops(double total, int64_t steps)
{
    static bool printed[KEYS][PART_COUNT];
    double known = 0;
    int key, part;
    printf("%-30s %-9s %-5s %8s %10s %6s\n", "op", "phase", "part", "calls", "ms", "%");
    while (next_row(printed, &key, &part)) {
        print_row(key, part, total, steps);
        known += profile.seconds[key][part];
        printed[key][part] = true;
    }
    printf("%-30s %-9s %-5s %8s %10.4f %6.1f\n", "outside", "-", "-", "-",
           1e3 * (total - known) / (double)steps, 100 * (total - known) / total);
    return known;
}

static void print_class(const char *name, double flops, double seconds, int64_t steps)
{
    char tflop[32] = "-";
    if (flops > 0)
        snprintf(tflop, sizeof tflop, "%.4f", flops * 1e-12 / (double)steps);
    printf("%-22s %10s %10s %10.4f\n", name, tflop, "-", 1e3 * seconds / (double)steps);
}

void profile_print(double total, int64_t steps)
{
    double seconds[OP_CLASS_COUNT] = {0}, flops = 0;
    double known = print_ops(total, steps);
    for (int key = 0; key < KEYS; key++)
        for (int part = 0; part < PART_COUNT; part++)
            seconds[class_of(key / PHASE_COUNT, part)] += profile.seconds[key][part];
    printf("%-22s %10s %10s %10s\n", "class", "TFLOP", "GB", "ms");
    for (int i = OTHER + 1; i <= OP_CLASS_COUNT; i++) { /* what is left comes last */
        int class = i % OP_CLASS_COUNT;
        print_class(op_class_names[class], profile.flops[class], seconds[class], steps);
        flops += profile.flops[class];
    }
    print_class("outside", 0, total - known, steps);
    print_class("sum", flops, total, steps);
}

void profile_end(void)
{
    if (profile.device)
        profile.device->backend = profile.plain;
    profile.device = NULL;
}
