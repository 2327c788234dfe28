#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/diffusion/sampler.h"
#include "common/diffusion/schedule.h"
#include "tests/support/tap.h"

#define N 64

static struct device *device;
static struct tape tape;

/* Data distributed as N(0.3, 0.7^2) has v in closed form, and the exact solution of the ODE from x
 * at `time` preserves (x - alpha mean) / sqrt(alpha^2 deviation^2 + sigma^2). */
static const double mean = 0.3, deviation = 0.7;

static double spread(struct alpha_sigma a)
{
    return a.alpha * a.alpha * deviation * deviation + a.sigma * a.sigma;
}

static struct tensor *predict(void *context, struct tape *t, struct tensor *x, float time)
{
    struct alpha_sigma a = alpha_sigma_of_time(time);
    size_t n = (size_t)tensor_count(x);
    float *values = xmalloc(n * sizeof *values);
    tensor_to_f32(x, values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((values[i] - a.alpha * mean) * a.alpha * a.sigma *
                                (1 - deviation * deviation) / spread(a) -
                            a.sigma * mean);
    struct tensor *v = tensor_from_f32(t->device, x->ndim, x->shape, values);
    free(values);
    if (context)
        ++*(int *)context;
    return v;
}

static void exact_end(float *x, float time)
{
    struct alpha_sigma a = alpha_sigma_of_time(time);
    for (int i = 0; i < N; i++)
        x[i] = (float)(mean + deviation * (x[i] - a.alpha * mean) / sqrt(spread(a)));
}

static void fill(float *x)
{
    for (int i = 0; i < N; i++)
        x[i] = 2.5f * (float)sin(1 + 7 * i);
}

static struct tensor *new_start(void)
{
    float x[N];
    fill(x);
    return tensor_from_f32(device, DIMS(2, 2, 4, N / 16), x);
}

/* Image i of the batch gets the noise of sample `first + i`. */
static struct tensor *draw_noise(void *first, struct tape *t, const struct tensor *x, int call)
{
    int64_t n = x->shape[0], count = tensor_count(x) / n;
    float *out = xmalloc((size_t)(n * count) * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        rng_normal(out + i * count, (size_t)count, 1, RNG_SAMPLER_NOISE, (uint32_t)call,
                   *(const uint64_t *)first + (uint64_t)i, 0);
    struct tensor *noise = tensor_from_f32(t->device, x->ndim, x->shape, out);
    free(out);
    return noise;
}

static struct sampler_options options(enum sampler_method m, float *steps, int count)
{
    static uint64_t first;
    schedule_steps(SCHEDULE_SPLICED, count, steps);
    return (struct sampler_options){
        .method = m, .steps = steps, .count = count, .noise = draw_noise, .noise_context = &first};
}

static void run(float *out, const struct sampler_options *o, struct tensor *x)
{
    struct sampler_model model = {predict, NULL};
    struct tensor *y = sampler_run(&tape, o, &model, x);
    tensor_to_f32(y, out);
    tensor_release(y);
}

static double error_of(enum sampler_method m, int count)
{
    float steps[256], x[N], expected[N];
    struct sampler_options o = options(m, steps, count);
    struct tensor *start = new_start();
    run(x, &o, start);
    tensor_release(start);
    fill(expected);
    exact_end(expected, steps[0]);
    return relative_l2(x, expected, N);
}

/* The error against the exact solution shrinks with the step size at the method's order. */
static void check_order(const char *what, double coarse, double fine, double order)
{
    double ours = log2(coarse / fine);
    tap_ok(ours >= order - 0.3 && ours <= order + 0.5, "%s: errors %.2g and %.2g: order %.2f", what,
           coarse, fine, ours);
}

static void test_order(enum sampler_method m, double order, double limit)
{
    check_order(sampler_method_names[m], error_of(m, 20), error_of(m, 40), order);
    double error = error_of(m, 50);
    tap_ok(error <= limit, "%s: error %.2g at 50 steps", sampler_method_names[m], error);
}

/* DPM-Solver++(2M) in steps of equal log SNR between two fixed times, the last of them not 0. It
 * returns the prediction of x_0 there. */
static double error_of_dpm2m(int count)
{
    const float noisy = -10, clean = 9;
    float steps[256], x[N], expected[N];
    struct sampler_options o = options(SAMPLER_DPM2M, steps, count);
    for (int i = 0; i < count; i++)
        steps[i] = time_of_log_snr(noisy + (clean - noisy) * (float)i / (float)(count - 1));
    struct tensor *start = new_start();
    run(x, &o, start);
    tensor_release(start);
    struct alpha_sigma first = alpha_sigma_of_time(steps[0]);
    struct alpha_sigma last = alpha_sigma_of_time(steps[count - 1]);
    fill(expected);
    for (int i = 0; i < N; i++) {
        double end = (expected[i] - first.alpha * mean) * sqrt(spread(last) / spread(first));
        expected[i] = (float)(mean + deviation * deviation * last.alpha / spread(last) * end);
    }
    return relative_l2(x, expected, N);
}

static void test_evaluations(void)
{
    static const struct {
        enum sampler_method method;
        int count, evaluations;
    } known[] = {
        {SAMPLER_PLMS, 50, 59}, {SAMPLER_PLMS, 2, 8},    {SAMPLER_PLMS, 3, 12},
        {SAMPLER_PRK, 5, 20},   {SAMPLER_PIE, 5, 10},    {SAMPLER_PLMS2, 1, 2},
        {SAMPLER_PLMS2, 9, 10}, {SAMPLER_IPLMS, 7, 7},   {SAMPLER_DDIM, 7, 7},
        {SAMPLER_DDPM, 1, 1},   {SAMPLER_DPM2M, 20, 20},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        float steps[64], x[N];
        int calls = 0;
        struct sampler_options o = options(known[i].method, steps, known[i].count);
        struct sampler_model model = {predict, &calls};
        struct tensor *start = new_start(), *end = sampler_run(&tape, &o, &model, start);
        tensor_to_f32(end, x);
        tensor_release(start);
        tensor_release(end);
        tap_ok(calls == known[i].evaluations && sampler_evaluations(&o) == calls &&
                   isfinite(relative_l2(x, x, N)),
               "%s: %d steps are %d evaluations", sampler_method_names[known[i].method],
               known[i].count, calls);
    }
}

static bool stop_at(void *context, int done)
{
    return done != *(int *)context;
}

static void test_stopping(void)
{
    for (int m = 0; m < SAMPLER_METHOD_COUNT; m++) {
        float steps[8];
        struct sampler_options o = options((enum sampler_method)m, steps, 5);
        struct sampler_model model = {predict, NULL};
        struct tensor *start = new_start();
        size_t before = device_memory(device).in_use;
        bool stopped = true;
        int at, evaluations = sampler_evaluations(&o);
        o.progress = stop_at;
        o.progress_context = &at;
        for (at = 1; at <= evaluations; at++)
            stopped = stopped && !sampler_run(&tape, &o, &model, start) &&
                      device_memory(device).in_use == before;
        tensor_release(start);
        tap_ok(stopped, "%s: stops after any evaluation and frees everything",
               sampler_method_names[m]);
    }
}

/* From an image to its noise and back. */
static void test_reverse(enum sampler_method m, double limit)
{
    enum { STEPS = 40 };
    float steps[STEPS], up[STEPS + 1] = {0}, image[N], x[N];
    struct sampler_options o = options(m, steps, STEPS);
    for (int i = 0; i < STEPS; i++)
        up[i + 1] = steps[STEPS - 1 - i];
    struct sampler_options reverse = o;
    reverse.reverse = true;
    reverse.steps = up;
    reverse.count = STEPS + 1;
    struct tensor *start = new_start();
    tensor_to_f32(start, image);
    run(x, &reverse, start);
    struct tensor *noise = tensor_from_f32(device, DIMS(N), x);
    run(x, &o, noise);
    tensor_release(start);
    tensor_release(noise);
    double error = relative_l2(x, image, N);
    tap_ok(error <= limit, "%s: reversed and back: %.2g", sampler_method_names[m], error);
}

/* The noise of an image depends on its index alone, so image i of a batch of two equals a batch of
 * one whose first image is i. */
static void test_noise(void)
{
    float steps[16], both[N], one[N / 2];
    struct sampler_options o = options(SAMPLER_DDPM, steps, 12);
    struct tensor *start = new_start();
    uint64_t first = 10;
    o.noise_context = &first;
    run(both, &o, start);
    bool same = true;
    for (int i = 0; i < 2; i++) {
        struct tensor *single = tensor_slice(start, i, 1);
        first = 10 + (uint64_t)i;
        run(one, &o, single);
        same = same && !memcmp(one, both + i * N / 2, sizeof one);
        tensor_release(single);
    }
    tap_ok(same, "an image is the same in any batch");
    tensor_release(start);
}

static void test_add_noise(void)
{
    struct tensor *image = tensor_from_f32(device, DIMS(2), (float[]){1, -2});
    struct tensor *noise = tensor_from_f32(device, DIMS(2), (float[]){3, 0.5f});
    struct tensor *x = sampler_add_noise(&tape, image, noise, 1 / 3.f);
    float out[2], expected[2];
    for (int i = 0; i < 2; i++)
        expected[i] = (float)(sqrt(0.75) * (i ? -2 : 1) + 0.5 * (i ? 0.5 : 3));
    tensor_to_f32(x, out);
    tap_ok(max_abs_difference(out, expected, 2) <= 1e-6, "a noised image at t = 1/3");
    tensor_release(image);
    tensor_release(noise);
    tensor_release(x);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    struct error e;
    if (device_open(&device, "cpu", &e))
        die("cannot open the CPU: %s", e.text);
    tape_init(&tape, device);
    test_order(SAMPLER_DDIM, 1, 4e-2);
    test_order(SAMPLER_PIE, 2, 2e-3);
    test_order(SAMPLER_PLMS2, 2, 2e-3);
    test_order(SAMPLER_PRK, 2, 5e-4);
    test_order(SAMPLER_PLMS, 2, 5e-4);
    test_order(SAMPLER_IPLMS, 2, 5e-3);
    check_order("dpm2m, even steps", error_of_dpm2m(21), error_of_dpm2m(41), 2);
    check_order("dpm2m, smaller steps", error_of_dpm2m(41), error_of_dpm2m(81), 2);
    double error = error_of(SAMPLER_DPM2M, 50);
    tap_ok(error <= 5e-3, "dpm2m: error %.2g at 50 steps", error);
    test_evaluations();
    test_stopping();
    test_reverse(SAMPLER_DDIM, 1e-1);
    test_reverse(SAMPLER_PIE, 3e-4);
    test_reverse(SAMPLER_PRK, 1e-4);
    test_reverse(SAMPLER_PLMS, 2e-3);
    test_noise();
    test_add_noise();
    tape_release(&tape);
    tap_ok(device_memory(device).in_use == 0, "no tensor is leaked");
    device_close(device);
    return tap_done();
}
