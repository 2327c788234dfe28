/* Muon: its steps against the plain iteration in double, what it leaves to AdamW, and gradients
 * that are not finite. */
#include "common/train/muon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/nets/unet.h"
#include "common/train/updater.h"
#include "kernels/host_product.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

#define RATE  0.02
#define DECAY 0.5
#define CLIP  3.0

static const struct adamw_options adamw = {0.9, 0.999, 1e-8, DECAY};

static const struct {
    const char *name;
    int64_t shape[4];
} kernels[] = {
    {"net.1.wide.weight", {64, 64, 3, 3}},
    {"net.2.square.weight", {128, 64, 1, 2}},
    {"net.3.tall.weight", {384, 64, 1, 2}},
};
#define KERNELS (sizeof kernels / sizeof kernels[0])
static const struct {
    const char *name;
    int ndim;
    int64_t shape[4];
} others[] = {
    {"net.0.input.weight", 4, {64, 24, 3, 3}},
    {"net.1.skip.weight", 4, {64, 128, 1, 1}},
    {"net.1.wide.bias", 1, {64}},
    {"net.1.main.2.layer.weight", 2, {128, 256}},
    {"net.8.output.weight", 4, {8, 64, 3, 3}},
};
#define OTHERS (sizeof others / sizeof others[0])

static struct parameters *new_parameters(struct device *d)
{
    struct architecture a = {0};
    for (size_t i = 0; i < KERNELS; i++)
        architecture_add(&a, 4, kernels[i].shape, "%s", kernels[i].name);
    for (size_t i = 0; i < OTHERS; i++)
        architecture_add(&a, others[i].ndim, others[i].shape, "%s", others[i].name);
    struct parameters *p = parameters_new(&a, NET_UNET, 3, d);
    architecture_release(&a);
    return p;
}

/* Update number `update` of every tensor; the kernels' have a few large directions, as gradients
 * do. The second is larger, so that it is clipped. */
static void write_gradients(struct parameters *p, int update)
{
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        float *g = xmalloc((size_t)t->count * sizeof *g);
        rng_normal(g, (size_t)t->count, 4, RNG_POSTERIOR, (uint64_t)update, (uint64_t)t->count, 0);
        int64_t rows = t->shape[0], columns = t->count / rows;
        for (int64_t j = 0; j < t->count; j++)
            g[j] *= (update > 0 ? 1.0F : 1e-3F) / (float)(1 + j / columns % 50);
        parameters_write(p, ARRAY_GRADIENTS, t->offset, t->count, g);
        free(g);
    }
}

static double *to_double(const float *x, int64_t n)
{
    double *y = xmalloc((size_t)n * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        y[i] = (double)x[i];
    return y;
}

/* x [m, n] -> orthogonal(x), by five steps of x (3.4445 - 4.7750 x'x + 2.0315 (x'x)^2). */
static void orthogonalize(double *x, int64_t m, int64_t n)
{
    size_t size = (size_t)(m * n), square = (size_t)(m * m);
    double *g = xmalloc(square * sizeof *g), *s = xmalloc(square * sizeof *s);
    double *y = xmalloc(size * sizeof *y), sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += x[i] * x[i];
    for (size_t i = 0; i < size; i++)
        x[i] /= sqrt(sum);
    for (int step = 0; step < 5; step++) {
        host_product(&(struct host_product){
            .m = m, .n = m, .k = n, .a = x, .b = x, .b_transposed = true, .scale = 1, .c = g});
        for (size_t i = 0; i < square; i++)
            s[i] = -4.7750 * g[i];
        host_product(&(struct host_product){
            .m = m, .n = m, .k = m, .a = g, .b = g, .add = true, .scale = 2.0315, .c = s});
        for (size_t i = 0; i < size; i++)
            y[i] = 3.4445 * x[i];
        host_product(&(struct host_product){
            .m = m, .n = n, .k = m, .a = s, .b = x, .add = true, .scale = 1, .c = y});
        memcpy(x, y, size * sizeof *x);
    }
    free(g);
    free(s);
    free(y);
}

struct run {
    struct parameters *p;
    struct updater updater;
};

static struct run begin(struct device *d, bool with_muon)
{
    struct run r = {.p = new_parameters(d)};
    if (with_muon)
        parameters_kernels_first(r.p);
    updater_init(&r.updater, r.p, collective_alone(), &adamw, CLIP, 1);
    if (with_muon)
        updater_use_muon(&r.updater);
    return r;
}

static void end(struct run *r)
{
    updater_release(&r->updater);
    parameters_free(r->p);
}

static float *read_array(const struct parameters *p, enum parameter_array which, const char *name)
{
    const struct parameter *t = parameters_find(p, name);
    CHECK(t);
    float *x = xmalloc((size_t)t->count * sizeof *x);
    const float *there = parameters_read(p, which, t->offset, t->count, x);
    if (there != x)
        memcpy(x, there, (size_t)t->count * sizeof *x);
    return x;
}

/* Expected weights of a kernel after an update, in place; momentum likewise. */
static void expect(const struct parameter *t, double *weight, double *momentum, const float *g,
                   double scale)
{
    int64_t rows = t->shape[0], columns = t->count / rows;
    double *n = xmalloc((size_t)t->count * sizeof *n);
    for (int64_t i = 0; i < t->count; i++) {
        momentum[i] = 0.95 * momentum[i] + 0.05 * scale * (double)g[i];
        n[i] = 0.95 * momentum[i] + 0.05 * scale * (double)g[i];
    }
    orthogonalize(n, rows, columns);
    double factor = 0.5 * sqrt((double)(rows > columns ? rows : columns));
    for (int64_t i = 0; i < t->count; i++)
        weight[i] = weight[i] * (1 - RATE * DECAY) - RATE * factor * n[i];
    free(n);
}

/* The largest difference, relative to the root mean square of `want`. */
static double difference(const float *got, const double *want, int64_t n)
{
    double squares = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        squares += want[i] * want[i] / (double)n;
        double apart = fabs((double)got[i] - want[i]);
        most = apart <= most ? most : apart; /* also NaN */
    }
    return most / sqrt(squares);
}

static void steps(struct device *d)
{
    struct run r = begin(d, true);
    double *weights[KERNELS], *momentum[KERNELS];
    for (size_t i = 0; i < KERNELS; i++) {
        const struct parameter *t = parameters_find(r.p, kernels[i].name);
        float *w = read_array(r.p, ARRAY_WEIGHTS, t->name);
        weights[i] = to_double(w, t->count);
        momentum[i] = xcalloc((size_t)t->count, sizeof **momentum);
        free(w);
    }
    for (int update = 0; update < 2; update++) {
        struct update_result result;
        float *g[KERNELS];
        write_gradients(r.p, update);
        for (size_t i = 0; i < KERNELS; i++)
            g[i] = read_array(r.p, ARRAY_GRADIENTS, kernels[i].name);
        updater_apply(&r.updater, RATE, 0.5, &result);
        tap_ok(result.applied && (update > 0) == (result.gradient_norm > CLIP),
               "%s: an update whose norm is %.4g", d->backend->name, result.gradient_norm);
        double scale = update > 0 ? CLIP / result.gradient_norm : 1;
        for (size_t i = 0; i < KERNELS; i++) {
            const struct parameter *t = parameters_find(r.p, kernels[i].name);
            expect(t, weights[i], momentum[i], g[i], scale);
            float *w = read_array(r.p, ARRAY_WEIGHTS, t->name);
            float *m = read_array(r.p, ARRAY_M, t->name);
            double apart = difference(w, weights[i], t->count);
            double apart_m = difference(m, momentum[i], t->count);
            tap_ok(apart < 2e-3 && apart_m < 1e-5,
                   "%s: weights as by the plain iteration: %.1e, momentum: %.1e", t->name, apart,
                   apart_m);
            free(w);
            free(m);
            free(g[i]);
        }
    }
    for (size_t i = 0; i < KERNELS; i++) {
        free(weights[i]);
        free(momentum[i]);
    }
    end(&r);
}

static bool same(const struct parameters *a, const struct parameters *b, enum parameter_array which,
                 const char *name)
{
    size_t bytes = (size_t)parameters_find(a, name)->count * sizeof(float);
    float *x = read_array(a, which, name), *y = read_array(b, which, name);
    bool equal = memcmp(x, y, bytes) == 0;
    free(x);
    free(y);
    return equal;
}

static void leaves_others(struct device *d)
{
    struct run muon = begin(d, true), plain = begin(d, false);
    struct update_result result;
    for (int update = 0; update < 3; update++) {
        write_gradients(muon.p, update);
        write_gradients(plain.p, update);
        updater_apply(&muon.updater, RATE, 0.5, &result);
        updater_apply(&plain.updater, RATE, 0.5, &result);
    }
    for (size_t i = 0; i < OTHERS; i++) {
        bool equal = true;
        for (int which = ARRAY_WEIGHTS; which < ARRAY_COUNT; which++)
            equal &= which == ARRAY_GRADIENTS || same(muon.p, plain.p, which, others[i].name);
        tap_ok(equal, "AdamW updates %s", others[i].name);
    }
    bool different = true;
    for (size_t i = 0; i < KERNELS; i++)
        different &= !same(muon.p, plain.p, ARRAY_WEIGHTS, kernels[i].name) &&
                     !same(muon.p, plain.p, ARRAY_EMA, kernels[i].name);
    tap_ok(different, "but not the kernels");
    end(&muon);
    end(&plain);
}

/* What is not finite in any tensor stops all of them. */
static void not_finite(struct device *d)
{
    struct run r = begin(d, true), before = begin(d, true);
    struct update_result result;
    write_gradients(r.p, 0);
    write_gradients(before.p, 0);
    updater_apply(&r.updater, RATE, 0.5, &result);
    updater_apply(&before.updater, RATE, 0.5, &result);
    write_gradients(r.p, 1);
    const float broken = NAN;
    parameters_write(r.p, ARRAY_GRADIENTS, parameters_find(r.p, others[2].name)->offset, 1,
                     &broken);
    updater_apply(&r.updater, RATE, 0.5, &result);
    bool unchanged = true;
    for (size_t i = 0; i < KERNELS; i++)
        for (int which = ARRAY_WEIGHTS; which < ARRAY_COUNT; which++)
            unchanged &= which == ARRAY_GRADIENTS || same(r.p, before.p, which, kernels[i].name);
    tap_ok(!result.applied && unchanged && r.p->updates == 1,
           "a gradient that is not finite changes neither kernels nor momentum");
    end(&r);
    end(&before);
}

/* Without a gradient, weights decay and nothing else. */
static void nothing(struct device *d)
{
    struct run r = begin(d, true);
    struct update_result result;
    const struct parameter *t = parameters_find(r.p, kernels[0].name);
    float *before = read_array(r.p, ARRAY_WEIGHTS, t->name);
    updater_apply(&r.updater, RATE, 0.5, &result);
    float *after = read_array(r.p, ARRAY_WEIGHTS, t->name);
    bool decayed = result.applied;
    for (int64_t i = 0; i < t->count; i++)
        decayed &= fabsf(after[i] - before[i] * (float)(1 - RATE * DECAY)) <= 1e-7F;
    tap_ok(decayed, "no gradient, no step");
    free(before);
    free(after);
    end(&r);
}

static void on(const char *name)
{
    struct device *d;
    struct error e;
    if (device_open(&d, name, &e) != 0) {
        tap_ok(strcmp(name, "cuda") == 0 && !getenv("CCLD_EXPECT_GPU"), "without %s: %s", name,
               e.text);
        return;
    }
    steps(d);
    leaves_others(d);
    not_finite(d);
    nothing(d);
    tap_ok(device_memory(d).in_use == 0, "%s: all memory was released", name);
    device_close(d);
}

int main(void)
{
    threads_init(0);
    on("cpu");
    emulated_cuda();
    on("cuda");
    return tap_done();
}
