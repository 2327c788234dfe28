#include "tests/op/checker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"

const struct op_test *const op_tests[] = {
#define OP(name)          &test_##name,
#define OP_TRAINING(name) &test_##name,
#define OP_BACKWARD(name) &test_##name##_backward,
#include "kernels/ops.def"
    NULL};

/* What PyTorch computed: forward and training, backward. */
static const char *const golden_files[] = {"tests/op/golden/ops.safetensors",
                                           "tests/op/golden/gradients.safetensors"};

static struct settings {
    const char *op, *golden, *parameters;
    int dtype;
    uint64_t seed;
    int64_t iterations, cases, only_case;
    bool bench, published;
} settings = {.seed = 1, .iterations = 1, .cases = 24, .only_case = -1};

static const char *const dtype_choices[] = {"all", "F32", "F16", "BF16", NULL};

static const struct option options[] = {
    {"op", 0, OPTION_STRING, &settings.op, "NAME", "this op only", 0, 0, NULL},
    {"dtype", 0, OPTION_CHOICE, &settings.dtype, "TYPE", "this type of weights only", 0, 0,
     dtype_choices},
    {"seed", 0, OPTION_SEED, &settings.seed, "S", "seed of the first iteration", 0, 0, NULL},
    {"case", 0, OPTION_INT, &settings.only_case, "K", "this case of the sweep only", -1, 1e9, NULL},
    {"cases", 0, OPTION_INT, &settings.cases, "N", "random cases beside the fixed ones", 0, 1e9,
     NULL},
    {"iterations", 0, OPTION_INT, &settings.iterations, "N",
     "sweeps, each with the next seed; after the first, random cases only", 1, 1e9, NULL},
    {"parameters", 0, OPTION_STRING, &settings.parameters, "TEXT",
     "one case, as failures print it (with --op)", 0, 0, NULL},
    {"golden", 0, OPTION_STRING, &settings.golden, "FILE", "PyTorch's results", 0, 0, NULL},
    {"published", 0, OPTION_FLAG, &settings.published, NULL,
     "also compare the sizes of the published networks (minutes)", 0, 0, NULL},
    {"bench", 0, OPTION_FLAG, &settings.bench, NULL, "time the ops instead", 0, 0, NULL},
    {0},
};

static const struct program program = {
    .name = "checker",
    .summary = "Check every op of a device against plain C and against PyTorch's results.",
    .usage = "[OPTION]...",
    .options = options,
};

/* A case's seed depends on op, type, sweep and number only, so that it can be repeated alone. */
static uint64_t case_seed(const struct check *c, uint64_t sweep_seed, int64_t number)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *s = c->test->name; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
    h = (h ^ c->weight_dtype) * UINT64_C(0x100000001b3);
    h = (h ^ sweep_seed) * UINT64_C(0x100000001b3);
    return (h ^ (uint64_t)number) * UINT64_C(0x9E3779B97F4A7C15);
}

static bool run_case(struct check *c, uint64_t sweep_seed, int64_t number)
{
    int64_t p[MAX_PARAMETERS] = {0};
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
    tap_diag("--op %s --dtype %s --seed %llu --case %lld (%s)", c->test->name,
             dtype_name(c->weight_dtype), (unsigned long long)sweep_seed, (long long)number,
             parameters);
    return false;
}

static void check_op(struct check *c)
{
    int64_t run = 0, failed = 0;
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
        for (int64_t number = begin; number < end; number++, run++)
            failed += !run_case(c, settings.seed + (uint64_t)sweep, number);
    }
    tap_ok(failed == 0,
           "%s, weights %s: %lld of %lld cases agree with ref, to %.2f of the tolerance",
           c->test->name, dtype_name(c->weight_dtype), (long long)(run - failed), (long long)run,
           c->worst_error);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_case(struct check *c, const int64_t *p)
{
    char parameters[400];
    describe(parameters, sizeof parameters, c->test, p);
    check_case(c, p, settings.seed);
    qsort(c->samples, (size_t)c->sample_count, sizeof *c->samples, by_value);
    double median = c->samples[c->sample_count / 2];
    printf("%-28s %-4s %10.3f ms %8.1f %s  %s\n", c->test->name, dtype_name(c->weight_dtype),
           median * 1e3, (c->flops ? c->flops : c->bytes_moved) / median * 1e-9,
           c->flops ? "GFLOP/s" : "GB/s   ", parameters);
    fflush(stdout);
}

static void bench_op(struct check *c)
{
    int64_t p[MAX_PARAMETERS] = {0};
    if (settings.parameters) {
        if (!parse_parameters(c->test, settings.parameters, p))
            die_usage("--parameters: not the parameters of %s", c->test->name);
        bench_case(c, p);
        return;
    }
    for (int i = 0; i < c->test->bench_count; i++)
        bench_case(c, c->test->bench[i]);
}

static void each_op(struct check *c)
{
    for (int i = 0; op_tests[i]; i++) {
        c->test = op_tests[i];
        if (settings.op && strcmp(settings.op, c->test->name))
            continue;
        for (enum dtype d = DTYPE_F32; d <= DTYPE_BF16; d++) {
            c->weight_dtype = d;
            bool wanted = !settings.dtype || !strcmp(dtype_choices[settings.dtype], dtype_name(d));
            if (!wanted || (d != DTYPE_F32 && !c->test->weight_dtypes))
                continue;
            if (settings.bench)
                bench_op(c);
            else
                check_op(c);
        }
    }
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

int main(int argc, char **argv)
{
    struct device *devices[SIDES];
    struct tape tapes[SIDES];
    struct error e;
    if (options_parse(&program, argc, argv))
        die_usage("no operands are expected");
    if (settings.op && !known_op(settings.op))
        die_usage("--op: there is no op '%s'", settings.op);
    if (settings.parameters && !settings.op)
        die_usage("--parameters wants --op");
    threads_init((int)common_options.threads);
    if (device_open(&devices[REF], "ref", &e))
        die("cannot open device 'ref': %s", e.text);
    if (device_open(&devices[DEVICE], common_options.device, &e))
        die("cannot open device '%s': %s", common_options.device, e.text);
    for (enum side side = REF; side < SIDES; side++)
        tape_init(&tapes[side], devices[side]);
    struct check *c = xcalloc(1, sizeof *c);
    c->device[REF] = devices[REF];
    c->device[DEVICE] = devices[DEVICE];
    c->tape = &tapes[DEVICE];
    c->ref_tape = &tapes[REF];
    c->judged = DEVICE;
    c->mode = settings.bench ? MODE_BENCH : MODE_COMPARE;
    if (!settings.bench)
        tap_diag("device %s, seed %llu", devices[DEVICE]->backend->name,
                 (unsigned long long)settings.seed);
    each_op(c);
    int status = 0;
    if (!settings.bench) {
        if (!settings.parameters && settings.only_case < 0) {
            each_golden(c);
            if (!settings.op) {
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
