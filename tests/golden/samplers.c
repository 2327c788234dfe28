#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/diffusion/sampler.h"
#include "common/diffusion/schedule.h"
#include "formats/weights/weights.h"
#include "kernels/tape.h"
#include "tests/support/subject.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"

static struct device *device;
static struct tape tape;
static uint64_t seed;
static const struct weight *start;

/* Single precision throughout, as in the reference: with few steps the samples depend on it. */
#define PI 3.14159265f

/* For data from N(0.3, 0.7^2): v of the exact posterior mean. */
static float gauss(float x, float t)
{
    const float mean = 0.3f, square = 0.7f * 0.7f;
    float angle = t * PI / 2, alpha = cosf(angle), sigma = sinf(angle);
    float variance = alpha * alpha * square + sigma * sigma;
    return (x - alpha * mean) * alpha * sigma * (1 - square) / variance - sigma * mean;
}

static float wavy(float x, float t)
{
    return 0.7f * sinf(3 * x + 2 * t) + 0.3f * x * cosf(t);
}

static struct tensor *predict(void *context, struct tape *t, struct tensor *x, float time)
{
    float (*v)(float, float) = *(float (**)(float, float))context;
    size_t n = (size_t)tensor_count(x);
    float *values = xmalloc(n * sizeof *values);
    tensor_to_f32(x, values);
    for (size_t i = 0; i < n; i++)
        values[i] = v(values[i], time);
    struct tensor *out = tensor_from_f32(t->device, x->ndim, x->shape, values);
    free(values);
    return out;
}

static struct tensor *noise(void *context, struct tape *t, const struct tensor *x, int call)
{
    size_t n = (size_t)tensor_count(x);
    float *values = xmalloc(n * sizeof *values);
    char name[32];
    snprintf(name, sizeof name, "eta.%d", call);
    synth_data(values, n, name, seed, SYNTH_DATA_SCALE);
    struct tensor *out = tensor_from_f32(t->device, x->ndim, x->shape, values);
    free(values);
    return out;
}

static int index_of(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

/* `schedule.NAME.STEPS` */
static void check_schedule(const struct weight *w, const char *name, int n)
{
    int schedule = index_of(schedule_names, name);
    float *expected = xmalloc((size_t)n * sizeof *expected),
          *ours = xmalloc((size_t)n * sizeof *ours);
    bool known = schedule >= 0 && weight_count(w) == n;
    double worst = INFINITY;
    if (known) {
        weight_to_f32(w, expected);
        schedule_steps((enum schedule)schedule, n, ours);
        worst = max_abs_difference(ours, expected, (size_t)n);
    }
    tap_ok(worst <= 1e-6, "samplers.safetensors: %s: worst %.2g", w->name, worst);
    free(expected);
    free(ours);
}

/* "plms", "ddim", "ddim_eta0.5", "reverse" */
static bool parse_method(struct sampler_options *o, const char *name)
{
    char base[32];
    const char *eta = strstr(name, "_eta");
    snprintf(base, sizeof base, "%.*s", (int)(eta ? eta - name : (long)strlen(name)), name);
    o->eta = eta ? strtod(eta + 4, NULL) : 0;
    o->reverse = !strcmp(base, "reverse");
    int method = o->reverse ? SAMPLER_DDIM : index_of(sampler_method_names, base);
    o->method = (enum sampler_method)method;
    return method >= 0;
}

static bool count_evaluation(void *context, int done)
{
    *(int *)context = done;
    return true;
}

/* `MODEL.METHOD.STEPS` */
static void check_sampler(const struct weight *w, const char *model_name, const char *method, int n)
{
    float (*v)(float, float) = !strcmp(model_name, "gauss") ? gauss : wavy;
    struct sampler_model model = {predict, &v};
    int done = 0;
    struct sampler_options o = {
        .count = n, .noise = noise, .progress = count_evaluation, .progress_context = &done};
    size_t count = (size_t)weight_count(start);
    if (!parse_method(&o, method) || weight_count(w) != (int64_t)count) {
        tap_ok(false, "samplers.safetensors: %s: unknown method or wrong shape", w->name);
        return;
    }
    float *steps = xmalloc((size_t)n * sizeof *steps), *x = xmalloc(count * sizeof *x);
    float *expected = xmalloc(count * sizeof *expected);
    schedule_steps(SCHEDULE_SPLICED, n, steps);
    for (int i = 0; o.reverse && i < n / 2; i++) {
        float swapped = steps[i];
        steps[i] = steps[n - 1 - i];
        steps[n - 1 - i] = swapped;
    }
    o.steps = steps;
    weight_to_f32(start, x);
    weight_to_f32(w, expected);
    struct tensor *from = tensor_from_f32(device, start->ndim, start->shape, x);
    struct tensor *to = sampler_run(&tape, &o, &model, from);
    tensor_to_f32(to, x);
    double error = relative_l2(x, expected, count);
    tap_ok(error <= 1e-5 && done == sampler_evaluations(&o),
           "samplers.safetensors: %s: error %.2g, %d evaluations", w->name, error, done);
    tensor_release(from);
    tensor_release(to);
    free(expected);
    free(x);
    free(steps);
}

static void check_all(const struct weights *w)
{
    const char *text = weights_metadata(w, "seed");
    start = weights_find(w, "in.x_T");
    if (!tap_ok(text && start, "samplers.safetensors has a seed and in.x_T"))
        return;
    seed = strtoull(text, NULL, 10);
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        char head[64], method[64];
        const char *first = strchr(t->name, '.'), *last = strrchr(t->name, '.');
        if (t == start || !first || first == last)
            continue;
        snprintf(head, sizeof head, "%.*s", (int)(first - t->name), t->name);
        snprintf(method, sizeof method, "%.*s", (int)(last - first - 1), first + 1);
        int n = atoi(last + 1);
        if (n < 1)
            tap_ok(false, "samplers.safetensors: %s: the number of steps is missing", t->name);
        else if (!strcmp(head, "schedule"))
            check_schedule(t, method, n);
        else if (!strcmp(head, "gauss") || !strcmp(head, "wavy"))
            check_sampler(t, head, method, n);
        else
            tap_ok(false, "samplers.safetensors: %s: unknown model", t->name);
    }
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    char *path = path_join(argc > 1 ? argv[1] : "tests/golden/data", "samplers.safetensors");
    struct weights *w;
    struct error e;
    if (!file_exists(path)) {
        tap_skip("not in this folder", "samplers.safetensors");
    } else if (weights_open(&w, path, &e)) {
        tap_ok(false, "samplers.safetensors: %s", e.text);
    } else {
        device = subject_open(subject_devices()[0]);
        tape_init(&tape, device);
        check_all(w);
        tape_release(&tape);
        tap_ok(device_memory(device).in_use == 0,
               "samplers.safetensors: all tensors were released");
        device_close(device);
        weights_close(w);
    }
    free(path);
    return tap_done();
}
