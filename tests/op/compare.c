#include "tests/op/checker.h"

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

/* Faults of the current case are told by the signal handler, which can only write what is ready. */
static char fault_text[600];
static pthread_t fault_thread;
static sigjmp_buf fault_jump;
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
        used += (size_t)snprintf(text + used, size - used, "%s%s=%lld", i ? " " : "",
                                 test->parameters[i], (long long)p[i]);
}

bool parse_parameters(const struct op_test *test, const char *text, int64_t *p)
{
    for (int i = 0; i < MAX_PARAMETERS && test->parameters[i]; i++) {
        char *end;
        size_t length = strlen(test->parameters[i]);
        while (*text == ' ')
            text++;
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
}

static void restore_threads(struct check *c)
{
    if (c->threads)
        threads_init(c->threads);
    c->threads = 0;
}

/* Puts the device's outputs aside; all is as it was before, but for the number of threads. */
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
        if (now && memcmp(now, o->first_result, o->bytes))
            check_failure(c, "%s has other bits with another number of threads", o->name);
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

bool run_again(struct check *c, enum side side)
{
    bool first = !c->started;
    c->started = true;
    if (c->mode == MODE_COMPARE && side == DEVICE)
        return run_twice(c, first);
    if (c->mode != MODE_BENCH || side == REF) {
        c->started = first && c->mode != MODE_BENCH;
        return c->started;
    }
    double now = seconds_now();
    int capacity = sizeof c->samples / sizeof *c->samples;
    if (first) {
        c->sample_count = -1; /* the first run warms up */
        c->seconds = 0;
    } else if (c->sample_count++ >= 0) {
        c->samples[c->sample_count - 1] = now - c->begun;
        c->seconds += now - c->begun;
    }
    c->started = c->sample_count < 3 || (c->seconds < BENCH_SECONDS && c->sample_count < capacity);
    c->begun = seconds_now();
    return c->started;
}

/* Relative L2 error. What was there before is no part of what the op has to get right, but its last
 * bits are rounded away: before is NULL for outputs that are only written. */
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
    double error = difference > 0 ? difference / sqrt(norm) : 0;
    if (tolerance > 0)
        c->worst_error = fmax(c->worst_error, error / tolerance);
    if (!(error <= tolerance))
        check_failure(c,
                      "%s: relative error %.3g > %.3g; worst is element %zu of %zu: %.9g, "
                      "wanted %.9g",
                      whose, error, tolerance, worst, n, got[worst], want[worst]);
}

static void check_output(struct check *c, const struct operand *y, struct tensor *result)
{
    size_t n = y->bytes / sizeof(float);
    float *got = operand_floats(c, DEVICE, y), *want = operand_floats(c, REF, y);
    double magnitude = fmax(c->magnitude, y->magnitude);
    float *before = y->prefilled ? operand_before(REF, y) : NULL;
    if (c->mode == MODE_GOLDEN) {
        char name[100];
        snprintf(name, sizeof name, "%s%s", y->name, y->prefilled && !y->of ? ".after" : "");
        const struct weight *golden = golden_operand(c, name, (int64_t)n);
        float *truth = xmalloc(y->bytes);
        weight_to_f32(golden, truth);
        if (c->judged == REF)
            check_values(c, y->name, want, truth, before, n, magnitude, GOLDEN_REF_TOLERANCE);
        else
            check_values(c, y->name, got, truth, before, n, magnitude,
                         fmax(c->tolerance, GOLDEN_REF_TOLERANCE));
        free(truth);
    } else {
        check_values(c, y->name, got, want, before, n, magnitude, c->tolerance);
    }
    if (result && !tensor_same_shape(result, y->on[REF])) {
        check_failure(c, "the public op returned another shape");
    } else if (result && c->judged == DEVICE) {
        tensor_to_f32(result, got);
        check_values(c, "public op", got, want, NULL, n, magnitude, c->tolerance);
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
    float *whole = operand_floats(c, DEVICE, y), *alone = xmalloc(n * sizeof(float));
    tensor_to_f32(result, alone);
    if (memcmp(whole + (size_t)i * n, alone, n * sizeof(float)))
        check_failure(c, "image %lld alone has other bits than in its batch", (long long)i);
    free(whole);
    free(alone);
    tensor_release(result);
}

static void on_fault(int signal)
{
    if (fault_expected && pthread_equal(pthread_self(), fault_thread))
        siglongjmp(fault_jump, 1);
    if (write(STDOUT_FILENO, fault_text, strlen(fault_text)) < 0)
        _exit(2);
    _exit(1);
}

static void catch_faults(const struct check *c, const int64_t *p, uint64_t seed)
{
    char parameters[400];
    describe(parameters, sizeof parameters, c->test, p);
    snprintf(fault_text, sizeof fault_text,
             "not ok - %s: touched memory outside of its tensors, weights %s, seed %llu: %s\n",
             c->test->name, dtype_name(c->weight_dtype), (unsigned long long)seed, parameters);
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
    catch_faults(c, p, seed);
    if (sigsetjmp(fault_jump, 1) == 0)
        c->test->run(c, p);
    else
        check_failure(c, "touched memory outside of its tensors");
    restore_threads(c);
    differences_release(c);
    operands_release(c);
    return !c->failure[0];
}
