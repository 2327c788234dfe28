#include "tests/op/checker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/threads.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

#define SMALL_WORK 3e6 /* maximum operations per case on an emulated GPU */

const struct op_test *const op_tests[] = {
#define OP(name)          &test_##name,
#define OP_TRAINING(name) &test_##name,
#define OP_BACKWARD(name) &test_##name##_backward,
#include "kernels/ops.def"
    NULL};

/* PyTorch's results: forward and training, backward. */
static const char *const golden_files[] = {"tests/op/golden/ops.safetensors",
                                           "tests/op/golden/gradients.safetensors"};

static struct settings {
    const char *op, *golden, *parameters;
    int dtype, weights;
    uint64_t seed;
    int64_t iterations, cases, only_case, batch;
    double work;
    bool bench, published;
} settings = {.seed = 1, .iterations = 1, .cases = 24, .only_case = -1};

static const char *const dtype_choices[] = {"all", "F32", "F16", "BF16", NULL};

/* Variants of weights: a type as stored in checkpoints, or a form that a device needs. */
static const struct variant {
    const char *name;
    enum dtype dtype;
    enum weight_form form;
} variants[] = {{"F32", DTYPE_F32, FORM_RAW},
                {"F16", DTYPE_F16, FORM_RAW},
                {"BF16", DTYPE_BF16, FORM_RAW},
                {"working", DTYPE_F32, FORM_WORKING},
                {"wanted", DTYPE_F32, FORM_WANTED},
                {"wanted-F16", DTYPE_F16, FORM_WANTED},
                {"wanted-BF16", DTYPE_BF16, FORM_WANTED}};
enum { VARIANTS = sizeof variants / sizeof *variants };
static const char *const weights_choices[] = {
    "all", "F32", "F16", "BF16", "working", "wanted", "wanted-F16", "wanted-BF16", NULL};

static const struct option options[] = {
    {.name = "op",
     .kind = OPTION_STRING,
     .value = &settings.op,
     .argument = "NAME",
     .help = "check only this op"},
    {.name = "dtype",
     .kind = OPTION_CHOICE,
     .value = &settings.dtype,
     .argument = "TYPE",
     .help = "check only this activation type, if the device has several",
     .choices = dtype_choices},
    {.name = "weights",
     .kind = OPTION_CHOICE,
     .value = &settings.weights,
     .argument = "FORM",
     .help = "check only this type or form of weights",
     .choices = weights_choices},
    {.name = "seed",
     .kind = OPTION_SEED,
     .value = &settings.seed,
     .argument = "S",
     .help = "seed of the first iteration"},
    {.name = "case",
     .kind = OPTION_INT,
     .value = &settings.only_case,
     .argument = "K",
     .min = -1,
     .max = 1e9,
     .help = "check only this case of the sweep"},
    {.name = "cases",
     .kind = OPTION_INT,
     .value = &settings.cases,
     .argument = "N",
     .max = 1e9,
     .help = "random cases in addition to the fixed ones"},
    {.name = "iterations",
     .kind = OPTION_INT,
     .value = &settings.iterations,
     .argument = "N",
     .min = 1,
     .max = 1e9,
     .help = "sweeps, each with the next seed; after the first, random cases only"},
    {.name = "parameters",
     .kind = OPTION_STRING,
     .value = &settings.parameters,
     .argument = "TEXT",
     .help = "check one case, written as failures print it (with --op)"},
    {.name = "golden",
     .kind = OPTION_STRING,
     .value = &settings.golden,
     .argument = "FILE",
     .help = "PyTorch's results"},
    {.name = "work",
     .kind = OPTION_FLOAT,
     .value = &settings.work,
     .argument = "N",
     .max = 1e18,
     .help = "leave out cases of more operations, or bytes moved, than this (0: none)"},
    {.name = "published",
     .kind = OPTION_FLAG,
     .value = &settings.published,
     .help = "also compare the sizes of the published networks (minutes)"},
    {.name = "bench",
     .kind = OPTION_FLAG,
     .value = &settings.bench,
     .help = "time the ops instead"},
    {.name = "batch",
     .kind = OPTION_INT,
     .value = &settings.batch,
     .argument = "N",
     .max = 1e6,
     .help = "with --bench: images per run (0: as listed)"},
    {0},
};

static const struct program program = {
    .name = "checker",
    .summary = "Check every op of a device against plain C and against PyTorch's results.",
    .usage = "[OPTION]...",
    .options = options,
};

/* A case's seed depends only on op, type, sweep and number, so that the case can be repeated alone.
 */
static uint64_t case_seed(const struct check *c, uint64_t sweep_seed, int64_t number)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *s = c->test->name; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    h = (h ^ c->weight_dtype ^ (uint64_t)c->weight_form << 4 ^ (uint64_t)c->dtype << 8) *
        UINT64_C(0x100000001b3);
    h = (h ^ sweep_seed) * UINT64_C(0x100000001b3);
    return (h ^ (uint64_t)number) * UINT64_C(0x9E3779B97F4A7C15);
}

static bool wants_forms(const struct check *c)
{
    return c->device[DEVICE]->backend->convert_weights != NULL;
}

static void set_variant(struct check *c, int variant)
{
    c->weight_dtype = variants[variant].dtype;
    c->weight_form = variants[variant].form;
}

/* Chooses the variant of weights for case `number` of a sweep in which they alternate. Trained
 * weights are F32. */
static void choose_variant(struct check *c, int64_t number)
{
    int64_t turn = (number < 0 ? -number : number) + (int64_t)c->dtype;
    if (settings.weights)
        set_variant(c, settings.weights - 1);
    else if (!c->alternates)
        return;
    else if (!wants_forms(c))
        set_variant(c, c->test->weight_dtypes ? (int)(turn % (DTYPE_BF16 + 1)) : 0);
    else
        set_variant(c, c->test->weight_dtypes ? (int)(turn % VARIANTS) : turn % 2 ? 3 : 0);
}

static const char *variant_name(const struct check *c)
{
    int i = 0;
    while (variants[i].dtype != c->weight_dtype || variants[i].form != c->weight_form)
        i++;
    return variants[i].name;
}

static bool run_case(struct check *c, uint64_t sweep_seed, int64_t number)
{
    int64_t p[MAX_PARAMETERS] = {0};
    choose_variant(c, number);
    uint64_t seed = case_seed(c, sweep_seed, number);
    if (settings.parameters) {
        if (!parse_parameters(c->test, settings.parameters, p))
            die_usage("--parameters: not the parameters of %s", c->test->name);
    } else if (number < 0) {
        memcpy(p, c->test->bench[~number], sizeof p);
    } else if (number < c->test->sweep_count) {
        memcpy(p, c->test->sweep[number], sizeof p);
    } else {
        c->random = ~seed;
        c->test->draw(c, p);
    }
    if (check_case(c, p, seed))
        return true;
    char parameters[400];
    describe(parameters, sizeof parameters, c->test, p);
    tap_diag("%s", c->failure);
    tap_diag("--op %s --dtype %s --weights %s --seed %" PRIu64 " --case %" PRId64 " (%s)",
             c->test->name, dtype_name(c->dtype), variant_name(c), sweep_seed, number, parameters);
    return false;
}

static void check_op(struct check *c)
{
    int64_t run = 0, failed = 0, left_out = 0;
    char what[60], without[60] = "";
    c->worst_error = 0;
    for (int i = 0; i < c->test->bench_count && settings.published; i++, run++)
        failed += !run_case(c, settings.seed, ~(int64_t)i);
    for (int64_t sweep = 0; sweep < settings.iterations; sweep++) {
        int64_t begin = sweep ? c->test->sweep_count : 0;
        int64_t end = c->test->sweep_count + settings.cases;
        if (settings.only_case >= 0 || settings.parameters) {
            begin = settings.only_case < 0 ? 0 : settings.only_case;
            end = begin + 1;
        }
        for (int64_t number = begin; number < end; number++, run++) {
            failed += !run_case(c, settings.seed + (uint64_t)sweep, number);
            left_out += c->left_out;
        }
    }
    if (c->alternates)
        snprintf(what, sizeof what, "in %s", dtype_name(c->dtype));
    else
        snprintf(what, sizeof what, "weights %s", dtype_name(c->weight_dtype));
    if (left_out)
        snprintf(without, sizeof without, " (%" PRId64 " more are left out: too much work)",
                 left_out);
    run -= left_out;
    tap_ok(failed == 0 && run > 0,
           "%s, %s: %" PRId64 " of %" PRId64 " cases agree with ref, to %.2f of the tolerance%s",
           c->test->name, what, run - failed, run, c->worst_error, without);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The number of images is the first parameter if that is called n. */
static void bench_case(struct check *c, const int64_t *listed)
{
    int64_t p[MAX_PARAMETERS];
    char parameters[400], part[40] = "";
    memcpy(p, listed, sizeof p);
    if (settings.batch && !strcmp(c->test->parameters[0], "n"))
        p[0] = settings.batch;
    describe(parameters, sizeof parameters, c->test, p);
    check_case(c, p, settings.seed);
    qsort(c->samples, (size_t)c->sample_count, sizeof *c->samples, by_value);
    double median = c->samples[c->sample_count / 2];
    double rate = (c->flops ? c->flops : c->bytes_moved) / median;
    double peak = c->flops ? c->peak_flops[c->dtype] : c->peak_bytes;
    if (peak)
        snprintf(part, sizeof part, " %5.1f %%", 100 * rate / peak);
    printf("%-28s %-4s %10.3f ms %8.1f %s%s  %s\n", c->test->name,
           dtype_name(c->alternates ? c->dtype : c->weight_dtype), median * 1e3, rate * 1e-9,
           c->flops ? "GFLOP/s" : "GB/s   ", part, parameters);
    fflush(stdout);
}

static void bench_op(struct check *c)
{
    int64_t p[MAX_PARAMETERS] = {0};
    if (!wants_forms(c) && c->alternates)
        set_variant(c, settings.weights ? settings.weights - 1 : c->test->weight_dtypes ? 2 : 0);
    if (wants_forms(c)) /* training has working copies, inference only the device's form */
        set_variant(c, settings.weights ? settings.weights - 1 : c->test->weight_dtypes ? 4 : 3);
    if (settings.parameters) {
        if (!parse_parameters(c->test, settings.parameters, p))
            die_usage("--parameters: not the parameters of %s", c->test->name);
        bench_case(c, p);
        return;
    }
    for (int i = 0; i < c->test->bench_count; i++)
        bench_case(c, c->test->bench[i]);
}

static bool wanted_dtype(int choice, enum dtype d)
{
    return !choice || !strcmp(dtype_choices[choice], dtype_name(d));
}

/* --op NAME also selects NAME_backward, unless it repeats one case or times the op. */
static bool selected(const char *name)
{
    if (!settings.op || !strcmp(settings.op, name))
        return true;
    size_t n = strlen(settings.op);
    return !settings.parameters && !settings.bench && !strncmp(name, settings.op, n) &&
           !strcmp(name + n, "_backward");
}

static void sweep(struct check *c, enum dtype dtype)
{
    c->dtype = c->device[DEVICE]->compute = dtype;
    if (settings.bench)
        bench_op(c);
    else
        check_op(c);
}

/* A sweep of F32 activations for every type of weights. */
static void each_weight(struct check *c)
{
    for (enum dtype d = DTYPE_F32; d <= DTYPE_BF16; d++) {
        if ((d != DTYPE_F32 && !c->test->weight_dtypes) ||
            (settings.weights && settings.weights != (int)d + 1))
            continue;
        set_variant(c, (int)d);
        sweep(c, DTYPE_F32);
    }
}

/* Every type of activations has a sweep, in which the variants of weights alternate; but on the CPU
 * F32 has one for each. */
static void each_op(struct check *c)
{
    bool forms = wants_forms(c);
    const struct backend *b = c->device[DEVICE]->backend;
    for (int i = 0; op_tests[i]; i++) {
        c->test = op_tests[i];
        if (!selected(c->test->name))
            continue;
        for (enum dtype d = DTYPE_F32; d <= DTYPE_BF16; d++) {
            if ((d != DTYPE_F32 && c->test->f32_only) || !wanted_dtype(settings.dtype, d) ||
                (d == DTYPE_F16 && !b->fp16) || (d == DTYPE_BF16 && !b->bf16))
                continue;
            c->alternates = forms || d != DTYPE_F32;
            if (!c->alternates) {
                each_weight(c);
                continue;
            }
            set_variant(c, 0);
            sweep(c, d);
        }
    }
    c->dtype = c->device[DEVICE]->compute = DTYPE_F32;
}

static void each_golden(struct check *c)
{
    if (settings.golden) {
        check_goldens(c, settings.golden, settings.op);
        return;
    }
    for (size_t i = 0; i < sizeof golden_files / sizeof *golden_files; i++)
        check_goldens(c, golden_files[i], settings.op);
}

static bool known_op(const char *name)
{
    for (int i = 0; op_tests[i]; i++)
        if (!strcmp(name, op_tests[i]->name))
            return true;
    return false;
}

/* The device named by the environment (tests/support/subject.h), by default the CPU. */
static const char *chosen_spec(void)
{
    const char *told = getenv("CCLD_DEVICE");
    if (subject_small() && !settings.work)
        settings.work = SMALL_WORK;
    return strcmp(common_options.device, "auto") ? common_options.device : told ? told : "cpu";
}

int main(int argc, char **argv)
{
    struct device *devices[SIDES];
    struct tape tapes[SIDES];
    struct error e;
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand");
    if (settings.op && !known_op(settings.op))
        die_usage("--op: no such op: '%s'", settings.op);
    if (settings.parameters && !settings.op)
        die_usage("--parameters needs --op");
    threads_init((int)common_options.threads);
    if (device_open(&devices[REF], "ref", &e) != 0)
        die("cannot open device 'ref': %s", e.text);
    const char *spec = chosen_spec();
    if (device_open(&devices[DEVICE], spec, &e) != 0)
        die("cannot open device '%s': %s", spec, e.text);
    for (enum side side = REF; side < SIDES; side++)
        tape_init(&tapes[side], devices[side]);
    struct check *c = xcalloc(1, sizeof *c);
    c->device[REF] = devices[REF];
    c->device[DEVICE] = devices[DEVICE];
    c->tape = &tapes[DEVICE];
    c->ref_tape = &tapes[REF];
    c->judged = DEVICE;
    c->mode = settings.bench ? MODE_BENCH : MODE_COMPARE;
    c->work_limit = settings.bench ? 0 : settings.work;
    if (settings.bench)
        measure_peaks(c);
    if (!settings.bench)
        tap_diag("device %s, seed %" PRIu64, devices[DEVICE]->backend->name, settings.seed);
    each_op(c);
    int status = 0;
    if (!settings.bench) {
        if (!settings.parameters && settings.only_case < 0) {
            set_variant(c, 0);
            each_golden(c);
            if (!settings.op && c->device[DEVICE]->host_memory) {
                check_broken_kernels(c);
                check_broken_backward_kernels(c);
            }
        }
        status = tap_done();
    }
    for (enum side side = REF; side < SIDES; side++)
        tape_release(&tapes[side]);
    free(c);
    device_close(devices[DEVICE]);
    device_close(devices[REF]);
    return status;
}
