#include "tests/op/checker.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "tests/op/operand.h"
#include "tests/support/tap.h"

#define GOLDEN_REF_TOLERANCE 2e-7   /* the goldens were computed in double and rounded */
#define ROUNDING             1.2e-7 /* of a sum to float */
#define BENCH_SECONDS        0.5
#define BATCH_SECONDS        2e-3

/* The signal handler reports a fault of the current case; it can only write prepared text. */
static char fault_text[600];
static pthread_t fault_thread;
static sigjmp_buf fault_jump;
enum { FAULT = 1, LEFT_OUT };
volatile bool fault_expected;

void check_failure(struct check *c, const char *format, ...)
{
    if (c->failure[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(c->failure, sizeof c->failure, format, args);
    va_end(args);
}

void describe(char *text, size_t size, const struct op_test *test, const int64_t *p)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < MAX_PARAMETERS && test->parameters[i] && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s=%" PRId64, i ? " " : "",
                                 test->parameters[i], p[i]);
}

bool parse_parameters(const struct op_test *test, const char *text, int64_t *p)
{
    for (int i = 0; i < MAX_PARAMETERS && test->parameters[i]; i++) {
        char *end;
        size_t length = strlen(test->parameters[i]);
        while (*text == ' ')
            text++;
        if (i > 0 && *text == 0)
            return true; /* the rest is 0 */
        if (strncmp(text, test->parameters[i], length) || text[length] != '=')
            return false;
        p[i] = strtoll(text + length + 1, &end, 10);
        if (end == text + length + 1)
            return false;
        text = end;
    }
    return *text == 0;
}

void work(struct check *c, double flops, double bytes)
{
    c->flops = flops;
    c->bytes_moved = bytes;
    c->left_out = c->work_limit > 0 && fmax(flops, bytes) > c->work_limit;
    if (c->left_out)
        siglongjmp(fault_jump, LEFT_OUT);
}

static void restore_threads(struct check *c)
{
    if (c->threads)
        threads_init(c->threads);
    c->threads = 0;
}

/* Saves the device's outputs and restores everything, except for the number of threads. */
static void second_run_begin(struct check *c)
{
    for (int i = 0; i < c->operand_count; i++) {
        struct operand *o = &c->operands[i];
        if (o->output) {
            free(o->first_result);
            o->first_result = operand_floats(c, DEVICE, o);
        }
        operand_restore(c, DEVICE, o);
    }
    c->threads = threads_count();
    threads_init(c->threads == 1 ? 3 : 1);
}

static void second_run_end(struct check *c)
{
    restore_threads(c);
    for (int i = 0; i < c->operand_count; i++) {
        const struct operand *o = &c->operands[i];
        float *now = o->output ? operand_floats(c, DEVICE, o) : NULL;
        if (now && memcmp(now, o->first_result, (size_t)o->count * sizeof(float)))
            check_failure(c, "%s has other bits %s", o->name,
                          c->device[DEVICE]->backend->synchronize
                              ? "in a second run"
                              : "with another number of threads");
        free(now);
    }
}

static bool run_twice(struct check *c, bool first)
{
    if (!first && !c->threads) {
        second_run_begin(c);
    } else if (!first) {
        second_run_end(c);
        c->started = false;
    }
    return c->started;
}

/* Takes samples of `batch` runs each: an asynchronous device is synchronized once per sample. */
static bool bench_again(struct check *c, bool first)
{
    bool behind = c->device[DEVICE]->backend->synchronize;
    int capacity = sizeof c->samples / sizeof *c->samples;
    if (!first && --c->batch_left > 0)
        return true;
    device_synchronize(c->device[DEVICE]);
    double taken = (seconds_now() - c->begun) / c->batch;
    if (first) {
        c->sample_count = behind ? -2 : -1; /* warm-up runs */
        c->batch = 1;
        c->seconds = 0;
    } else if (++c->sample_count > 0) {
        c->samples[c->sample_count - 1] = taken;
        c->seconds += taken * c->batch;
    } else if (c->sample_count == 0 && behind) {
        c->batch = (int)fmin(fmax(BATCH_SECONDS / taken, 1), 1000);
    }
    c->batch_left = c->batch;
    c->begun = seconds_now();
    return c->sample_count < 3 || (c->seconds < BENCH_SECONDS && c->sample_count < capacity);
}

bool run_again(struct check *c, enum side side)
{
    bool first = !c->started;
    c->started = true;
    if (c->mode == MODE_COMPARE && side == DEVICE)
        return run_twice(c, first);
    if (c->mode == MODE_BENCH && side == DEVICE)
        c->started = bench_again(c, first);
    else
        c->started = first && c->mode != MODE_BENCH;
    return c->started;
}

/* The maximum error, relative to the norm, of rounding values to this type once. For many values it
 * is closer to the mean error than to the worst. */
static double one_rounding(enum dtype dtype, size_t n)
{
    double most = dtype == DTYPE_BF16 ? 0x1p-8 : dtype == DTYPE_F16 ? 0x1p-11 : 0;
    return n < 256 ? most : 0.64 * most;
}

/* The tolerance of an output: the case's own, plus unavoidable roundings to 16 bits. */
static double tolerance_of(const struct check *c, const struct tensor *t, size_t n)
{
    double inside = c->dtype == DTYPE_F32 ? 0 : c->test->roundings;
    if (c->test->rounds_kernels && c->dtype != DTYPE_F32 && t->dtype == DTYPE_F32 && t->ndim == 4)
        inside = 1;
    if (c->dtype == DTYPE_F32) /* a last bit of F32 may round a few values the other way */
        return c->tolerance + 2 * one_rounding(t->dtype, 1) / sqrt((double)n);
    if (c->tolerance == 0 && inside == 0)
        return c->tolerance;
    if (t->dtype == DTYPE_F32) /* sums of products of 16 bits, in another order */
        return fmax(c->tolerance, 1e-5) + sqrt(inside) * one_rounding(c->dtype, n);
    return c->tolerance + sqrt(1 + inside) * one_rounding(t->dtype, n);
}

/* Checks the relative L2 error. For outputs that are added to, `before` holds the previous values,
 * which do not count as part of the result but lose their last bits to rounding; it is NULL for
 * outputs that are overwritten. */
static void check_values(struct check *c, const char *whose, const float *got, const float *want,
                         const float *before, size_t n, double magnitude, double tolerance)
{
    size_t worst = 0;
    double difference = 0, norm = 0, rounded = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        difference += d * d;
        double change = before ? (double)want[i] - before[i] : want[i];
        norm += change * change;
        rounded += before ? (double)want[i] * want[i] : 0;
        if (!isfinite(got[i]) || !isfinite(want[i])) {
            check_failure(c, "%s: element %zu of %zu is %g, wanted %g", whose, i, n, got[i],
                          want[i]);
            return;
        }
        if (d > fabs((double)got[worst] - want[worst]))
            worst = i;
    }
    norm = fmax(norm, (double)n * magnitude * magnitude);
    difference = fmax(0, sqrt(difference) - ROUNDING * sqrt(rounded));
    if (c->dtype == DTYPE_F16) /* the spacing of its smallest numbers */
        difference = fmax(0, difference - 0x1p-24 * sqrt((double)n));
    double error = difference > 0 ? difference / sqrt(norm) : 0;
    if (tolerance > 0)
        c->worst_error = fmax(c->worst_error, error / tolerance);
    if (!(error <= tolerance))
        check_failure(c,
                      "%s: relative error %.3g > %.3g; worst is element %zu of %zu: %.9g, "
                      "wanted %.9g",
                      whose, error, tolerance, worst, n, got[worst], want[worst]);
}

/* Moves the elements that the op owns to the front and returns their number. */
static size_t own_elements(const struct operand *o, float *values)
{
    size_t n = 0;
    for (int64_t i = 0; i < o->count; i++)
        if (operand_owns(o, i))
            values[n++] = values[i];
    return n;
}

/* If only the last rounding could differ, it must not. */
static void round_alike(enum dtype dtype, float *values, size_t n)
{
    uint16_t *rounded = xmalloc(n * sizeof *rounded);
    dtype_from_f32(dtype, rounded, values, n);
    dtype_to_f32(values, dtype, rounded, n);
    free(rounded);
}

static void check_golden_output(struct check *c, const struct operand *y, const float *got,
                                const float *before, double magnitude, double tolerance)
{
    char name[100];
    snprintf(name, sizeof name, "%s%s", y->name, y->prefilled && !y->of ? ".after" : "");
    float *truth = xmalloc((size_t)y->count * sizeof *truth);
    weight_to_f32(golden_operand(c, name, y->count), truth);
    check_values(c, y->name, got, truth, before, (size_t)y->count, magnitude, tolerance);
    free(truth);
}

static void check_output(struct check *c, const struct operand *y, struct tensor *result)
{
    const struct tensor *t = y->on[DEVICE];
    float *got = operand_floats(c, DEVICE, y), *want = operand_floats(c, REF, y);
    float *before = y->prefilled ? operand_before(REF, y) : NULL;
    double magnitude = fmax(c->magnitude, y->magnitude);
    size_t n = own_elements(y, want);
    double tolerance = tolerance_of(c, t, n);
    if (tolerance == 0 && dtype_size(t->dtype) == 2)
        round_alike(t->dtype, want, n);
    own_elements(y, got);
    if (c->mode == MODE_COMPARE)
        check_values(c, y->name, got, want, before, n, magnitude, tolerance);
    else if (c->judged == REF)
        check_golden_output(c, y, want, before, magnitude, GOLDEN_REF_TOLERANCE);
    else
        check_golden_output(c, y, got, before, magnitude, fmax(tolerance, GOLDEN_REF_TOLERANCE));
    if (result && !tensor_same_shape(result, y->on[REF])) {
        check_failure(c, "the public op returned another shape");
    } else if (result && result->dtype != t->dtype) {
        check_failure(c, "the public op returned another type");
    } else if (result && c->judged == DEVICE) {
        float *returned = xmalloc((size_t)y->count * sizeof *returned);
        tensor_to_f32(result, returned);
        check_values(c, "public op", returned, want, NULL, n, magnitude, tolerance);
        free(returned);
    }
    free(before);
    free(got);
    free(want);
}

void finish(struct check *c, struct tensor *result)
{
    for (int i = 0; i < c->operand_count && c->mode != MODE_BENCH; i++) {
        const struct operand *o = &c->operands[i];
        for (enum side side = REF; side < SIDES; side++)
            operand_check_memory(c, side, o);
        if (o->output)
            check_output(c, o, result);
    }
    tensor_release(result);
}

void finish_alone(struct check *c, const struct operand *y, int64_t i, struct tensor *result)
{
    size_t n = (size_t)tensor_count(result);
    float *all = operand_floats(c, DEVICE, y), *alone = xmalloc(n * sizeof(float));
    float *whole = all + (size_t)i * n;
    char name[60];
    tensor_to_f32(result, alone);
    snprintf(name, sizeof name, "image %" PRId64 " alone", i);
    if (c->test->library && c->device[DEVICE]->backend->synchronize)
        check_values(c, name, alone, whole, NULL, n, fmax(c->magnitude, y->magnitude),
                     2 * tolerance_of(c, result, n));
    else if (memcmp(whole, alone, n * sizeof(float)))
        check_failure(c, "%s has other bits than in its batch", name);
    free(all);
    free(alone);
    tensor_release(result);
}

static void on_fault(int signal)
{
    if (fault_expected && pthread_equal(pthread_self(), fault_thread))
        siglongjmp(fault_jump, FAULT);
    if (write(STDOUT_FILENO, fault_text, strlen(fault_text)) < 0)
        _exit(2);
    _exit(1);
}

static void catch_faults(const struct check *c, const int64_t *p, uint64_t seed)
{
    char parameters[400];
    describe(parameters, sizeof parameters, c->test, p);
    snprintf(fault_text, sizeof fault_text,
             "not ok - %s: touched memory outside its tensors, weights %s, seed %" PRIu64 ": %s\n",
             c->test->name, dtype_name(c->weight_dtype), seed, parameters);
    fault_thread = pthread_self();
    struct sigaction action = {.sa_handler = on_fault};
    CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaction(SIGBUS, &action, NULL) == 0);
}

bool check_case(struct check *c, const int64_t *p, uint64_t seed)
{
    c->failure[0] = 0;
    c->random = seed;
    c->started = false;
    c->tolerance = c->test->tolerance;
    c->magnitude = 0;
    c->left_out = false;
    catch_faults(c, p, seed);
    int jumped = sigsetjmp(fault_jump, 1);
    if (jumped == 0)
        c->test->run(c, p);
    else if (jumped == FAULT)
        check_failure(c, "touched memory outside its tensors");
    restore_threads(c);
    differences_release(c);
    operands_release(c);
    return !c->failure[0];
}
