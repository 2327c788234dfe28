#include "tests/support/work.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/op_classes.h"

enum op_index {
#define OP(name)          OP_##name,
#define OP_TRAINING(name) OP_##name,
#define OP_BACKWARD(name) OP_##name##_backward,
#include "kernels/ops.def"
    OP_convert_weights,
    OUTSIDE, /* of any op */
    ANY
};
static const char *const op_names[] = {
#define OP(name)          #name,
#define OP_TRAINING(name) #name,
#define OP_BACKWARD(name) #name "_backward",
#include "kernels/ops.def"
    "convert_weights", "outside", "any"};

/* Copies between host and GPU belong to no op. */
enum { TRANSFERS = OP_CLASS_COUNT, CLASS_COUNT };

/* What is assumed of one H100 SXM: memory moves 85% of 3.35 TB/s, products in 16 bits run at half
 * to 61% of 989 TFLOP/s (what cuDNN and cuBLASLt reach in published benchmarks of such shapes), and
 * weight gradients, whose sums are long, at less. F32 has 67 TFLOP/s without tensor cores, TF32
 * half of the 16-bit rate. A launch takes the longer of the time for its products and for its
 * bytes. */
#define MEMORY_BYTES_PER_S   2.85e12
#define TRANSFER_BYTES_PER_S 50e9 /* of PCIe 5.0 x16 */
/* 1e12 products and sums per second, in 16 bits; 0: none. */
static const double tflops[CLASS_COUNT] = {
    [CONV_FORWARD] = 600, [CONV_DGRAD] = 600, [CONV_WGRAD] = 500,        [LINEAR_FORWARD] = 570,
    [LINEAR_DX] = 570,    [LINEAR_DW] = 460,  [ATTENTION_FORWARD] = 150, [ATTENTION_BACKWARD] = 150,
};
#define F32_RATE  0.07 /* of the rate in 16 bits */
#define TF32_RATE 0.5

/* The class of a launch and what it reads and writes: each operand of its op times a factor. The
 * first rule that fits counts; a rule without factors: all operands once, with the op's first
 * launch. */
#define FACTORS 3
static const struct rule {
    int op;
    const char *launch; /* the beginning of its name */
    int class;          /* enum op_class, or TRANSFERS */
    double factors[FACTORS];
} rules[] = {
    {ANY, "convolution_forward", CONV_FORWARD, {0}},
    {ANY, "convolution_backward_data", CONV_DGRAD, {0}},
    {ANY, "convolution_backward_weight", CONV_WGRAD, {0}},
    {OP_conv2d, "product", CONV_FORWARD, {0}},
    {OP_conv2d, "patches_kernel", CONV_FORWARD, {2}},
    {OP_conv2d_backward, "product by a transpose", CONV_WGRAD, {0}},
    {OP_conv2d_backward, "product", CONV_DGRAD, {0}},
    {OP_linear, "product", LINEAR_FORWARD, {0}},
    {OP_linear_backward, "product by a transpose", LINEAR_DW, {0}},
    {OP_linear_backward, "product", LINEAR_DX, {0}},
    {ANY, "convert_vector_kernel", WEIGHT_CONVERSION, {0}},
    {OP_linear, "bias_activate_kernel", LINEAR_FORWARD, {0, 0, 2}},
    {OP_conv2d, "bias_activate_kernel", CONV_FORWARD, {0, 0, 2}},
    {OP_conv2d_backward, "add_filters_kernel", WGRAD_SUM, {0, 1, 1}},
    {OP_conv2d_backward, "sum_columns<T", BIAS_GRADIENTS, {1}},
    {OP_linear_backward, "sum_columns<T", BIAS_GRADIENTS, {1}},
    {OP_linear_backward, "relu_gradient", LINEAR_DX, {3}},
    {OP_group_norm, "partial_moments", GROUP_NORM_FORWARD, {1}},
    {OP_group_norm, "normalize", GROUP_NORM_FORWARD, {1, 1, 1}},
    {OP_group_norm_backward, "partial_moments", GROUP_NORM_BACKWARD, {1}},
    {OP_group_norm_backward, "partial_sums", GROUP_NORM_BACKWARD, {1, 1}},
    {OP_group_norm_backward, "gradient_by_x", GROUP_NORM_BACKWARD, {1, 1, 1}},
    {OP_group_norm_backward, "whole_backward", GROUP_NORM_BACKWARD, {1, 1, 1}},
    {OP_group_norm_backward, "sum_columns", BIAS_GRADIENTS, {0}},
    {OP_group_norm_backward, "", GROUP_NORM_BACKWARD, {0}},
    {OP_update, "decide", ADAMW_EMA, {0}},
    {OP_update, "adamw", ADAMW_EMA, {1}},
    {OP_attention_backward, "head_backward", ATTENTION_BACKWARD, {7}},
    {OP_attention_backward, "", ATTENTION_BACKWARD, {4}},
    {ANY, "sum_columns<float", BIAS_GRADIENTS, {0}},
    {ANY, "transfer", TRANSFERS, {0}},
    {ANY, "memset", OTHER, {0}},
    {ANY, "copy", OTHER, {0}},
    {OP_layer_norm, NULL, GROUP_NORM_FORWARD, {0}},
    {OP_layer_norm_backward, NULL, GROUP_NORM_BACKWARD, {0}},
    {OP_attention, NULL, ATTENTION_FORWARD, {0}},
    {OP_add, NULL, ADD, {0}},
    {OP_add_rows, NULL, ADD, {0}},
    {OP_concat, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_concat_backward, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_append_planes, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_append_planes_backward, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_avg_pool2x2, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_avg_pool2x2_backward, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_upsample_nearest2x, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_upsample_nearest2x_backward, NULL, CONCAT_POOL_UPSAMPLE, {0}},
    {OP_upsample_bilinear2x, "put_columns", CONCAT_POOL_UPSAMPLE, {0, 2}},
    {OP_upsample_bilinear2x, "", CONCAT_POOL_UPSAMPLE, {5}},
    {OP_upsample_bilinear2x_backward, "take_columns", CONCAT_POOL_UPSAMPLE, {0, 2}},
    {OP_upsample_bilinear2x_backward, "", CONCAT_POOL_UPSAMPLE, {5}},
    {OP_square_sums, NULL, SUM_OF_SQUARES, {0}},
    {OP_adamw, NULL, ADAMW_EMA, {0}},
    {OP_moving_average, NULL, ADAMW_EMA, {0}},
    {OP_convert_weights, NULL, WEIGHT_CONVERSION, {0}},
    {ANY, NULL, OTHER, {0}},
};

#define OPERANDS 6
static struct {
    enum op_index op;
    double operands[OPERANDS], flop;
    int launches; /* of this call so far */
} call = {.op = OUTSIDE};

static struct totals {
    long launches;
    double flop, bytes, seconds;
} totals[CLASS_COUNT];

#define LINES 512
static struct line {
    enum op_index op;
    char launch[64];
    struct totals totals;
} lines[LINES];
static int line_count;

static const struct backend *plain;
static double rate = 1; /* of products, compared to 16 bits */

static const struct rule *rule_of(enum op_index op, const char *launch)
{
    const struct rule *r = rules;
    while ((r->op != ANY && r->op != (int)op) ||
           (r->launch && strncmp(launch, r->launch, strlen(r->launch)) != 0))
        r++;
    return r;
}

static void add_to(struct totals *t, double flop, double bytes, double seconds)
{
    t->launches++;
    t->flop += flop;
    t->bytes += bytes;
    t->seconds += seconds;
}

static void add_line(const char *launch, double flop, double bytes, double seconds)
{
    int i = 0;
    while (i < line_count && (lines[i].op != call.op || strncmp(lines[i].launch, launch, 63) != 0))
        i++;
    CHECK(i < LINES);
    if (i == line_count) {
        lines[i] = (struct line){.op = call.op};
        snprintf(lines[i].launch, sizeof lines[i].launch, "%s", launch);
        line_count++;
    }
    add_to(&lines[i].totals, flop, bytes, seconds);
}

static double attention_flop(const char *launch)
{
    /* Products: of the forward pass 2; backward 5, or in two kernels scores and their gradient
     * twice for queries and once more for keys. */
    if (call.op == OP_attention)
        return call.flop * 2;
    return call.flop * (strstr(launch, "keys") ? 4 : 5);
}

/* The emulator's report of a launch. */
static void listen(const char *launch, double flop, double bytes)
{
    launch += strspn(launch, "(");
    const struct rule *r = rule_of(call.op, launch);
    bool all = !r->launch && call.launches == 0;
    for (int i = 0; i < OPERANDS; i++)
        bytes += all ? call.operands[i] : i < FACTORS ? call.operands[i] * r->factors[i] : 0;
    if (call.op == OP_attention || call.op == OP_attention_backward)
        flop = attention_flop(launch);
    double speed = tflops[r->class] * 1e12 * rate;
    double computing = flop > 0 && speed > 0 ? flop / speed : 0;
    double moving = bytes / (r->class == TRANSFERS ? TRANSFER_BYTES_PER_S : MEMORY_BYTES_PER_S);
    double seconds = computing > moving ? computing : moving;
    call.launches++;
    add_to(&totals[r->class], flop, bytes, seconds);
    add_line(launch, flop, bytes, seconds);
}

static double bytes_of(const struct tensor *t)
{
    return t ? (double)tensor_count(t) * (double)dtype_size(t->dtype) : 0;
}

static void call_begin(enum op_index op, const double *operands, size_t count)
{
    CHECK(count <= OPERANDS);
    call.op = op;
    call.launches = 0;
    call.flop = 0;
    for (size_t i = 0; i < OPERANDS; i++)
        call.operands[i] = i < count ? operands[i] : 0;
}

static void call_end(void)
{
    call_begin(OUTSIDE, NULL, 0);
}

/* Of one of attention's products; 0 for other ops. */
static double flop_of(enum op_index op, const void *args)
{
    const struct attention_args *a = op == OP_attention ? args
                                     : op == OP_attention_backward
                                         ? &((const struct attention_backward_args *)args)->forward
                                         : NULL;
    return a ? 2.0 * (double)(a->n * a->heads * a->d) * (double)a->s * (double)a->s : 0;
}

#include "tests/support/op_classes.h"
#include "tests/support/work_operands.h"
#define COUNTED(name, args)                                                                        \
    static void counted_##name(struct device *d, const struct args *a)                             \
    {                                                                                              \
        const double operands[] = {OPERANDS_##name};                                               \
        call_begin(OP_##name, operands, sizeof operands / sizeof *operands);                       \
        call.flop = flop_of(OP_##name, a);                                                         \
        plain->name(d, a);                                                                         \
        call_end();                                                                                \
    }

#define OP(name)          COUNTED(name, name##_args)
#define OP_TRAINING(name) COUNTED(name, name##_args)
#define OP_BACKWARD(name) COUNTED(name##_backward, name##_backward_args)
#include "kernels/ops.def"

static void counted_convert_weights(struct device *d, const struct convert_weights_args *a)
{
    double operands[2] = {0};
    for (int i = 0; i < a->count; i++) {
        operands[0] += bytes_of(a->from[i]);
        operands[1] += bytes_of(a->to[i]);
    }
    call_begin(OP_convert_weights, operands, 2);
    plain->convert_weights(d, a);
    call_end();
}

/* The emulator beside the program. Without recording, every
 * launch is reported each time; a recording would consist of the same ones. */
static void choose_emulator(const char *program)
{
    char *path = xstrdup(program), *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    char *plugin = path_join(slash ? path : ".", "../cuda-host/libccld-cuda-host.so");
    setenv("CCLD_CUDA_PLUGIN", plugin, 1);
    setenv("CCLD_EMULATED_COUNT", "1", 1);
    setenv("CCLD_EMULATED_MEMORY", "4000000000000", 0);
    free(plugin);
    free(path);
}

struct device *work_open(const char *program, const char *precision, bool tf32)
{
    static struct backend counting;
    struct device *d;
    struct error e;
    choose_emulator(program);
    if (device_open(&d, "cuda", &e) != 0 || device_set_precision(d, precision, tf32, &e) != 0)
        die("cannot use the emulator: %s", e.text);
    void *library = dlopen(getenv("CCLD_CUDA_PLUGIN"), RTLD_NOW | RTLD_NOLOAD);
    void (*count)(void (*)(const char *, double, double)) = NULL;
    if (library)
        *(void **)&count = dlsym(library, "ccld_cuda_count_work");
    if (!count)
        die("'%s' is not the emulator", getenv("CCLD_CUDA_PLUGIN"));
    count(listen);
    plain = d->backend;
    rate = d->compute != DTYPE_F32 ? 1 : tf32 ? TF32_RATE : F32_RATE;
    counting = *plain;
    counting.record_begin = NULL;
    counting.convert_weights = counted_convert_weights;
#define OP(name)          counting.name = counted_##name;
#define OP_TRAINING(name) counting.name = counted_##name;
#define OP_BACKWARD(name) counting.name##_backward = counted_##name##_backward;
#include "kernels/ops.def"
    d->backend = &counting;
    return d;
}

void work_begin(void)
{
    memset(totals, 0, sizeof totals);
    line_count = 0;
}

static void print_line(FILE *out, enum work_format format, const char *title, const char *name,
                       const struct totals *t, int rounds)
{
    const char *pattern = format == WORK_TSV ? "%s\t%s\t%.6g\t%.6g\t%.6g\t%.6g\n"
                                             : "%s| %-42s | %8.6g | %8.3f | %8.3f | %8.3f |\n";
    fprintf(out, pattern, format == WORK_TSV ? title : "", name, (double)t->launches / rounds,
            t->flop / 1e12 / rounds, t->bytes / 1e9 / rounds, t->seconds * 1e3 / rounds);
}

double work_print(FILE *out, enum work_format format, const struct device *d, const char *title,
                  int rounds)
{
    struct totals sum = {0};
    if (format != WORK_TSV)
        fprintf(out, "%s; memory %.1f GB\n\n| %-42s | launches | %8s | %8s | %8s |\n%s\n", title,
                (double)device_memory(d).peak / 1e9, format == WORK_TABLE ? "class" : "op: launch",
                "TFLOP", "GB", "ms", "|---|---|---|---|---|");
    for (int i = 0; i < CLASS_COUNT; i++) {
        add_to(&sum, totals[i].flop, totals[i].bytes, totals[i].seconds);
        sum.launches += totals[i].launches - 1;
        if (totals[i].launches > 0 && format != WORK_LAUNCHES)
            print_line(out, format, title, i == TRANSFERS ? "transfers" : op_class_names[i],
                       &totals[i], rounds);
    }
    for (int i = 0; i < line_count && format == WORK_LAUNCHES; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s: %s", op_names[lines[i].op], lines[i].launch);
        print_line(out, format, title, name, &lines[i].totals, rounds);
    }
    print_line(out, format, title, "sum", &sum, rounds);
    return sum.seconds / rounds;
}
