/* LPIPS, the discriminator and their gradients against PyTorch's values
 * (tests/unit/golden/make-reconstruction.py) and finite differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/train/reconstruction_loss.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

#define GOLDEN "tests/unit/golden/reconstruction.safetensors"

static struct weights *golden;

static const struct weight *stored(const char *name)
{
    const struct weight *w = weights_find(golden, name);
    if (!w)
        die("%s has no '%s'", GOLDEN, name);
    return w;
}

static double number(const char *key)
{
    const char *text = weights_metadata(golden, key);
    if (!text)
        die("%s has no number '%s'", GOLDEN, key);
    return strtod(text, NULL);
}

static float *values(const char *name)
{
    const struct weight *w = stored(name);
    float *v = xmalloc((size_t)weight_count(w) * sizeof *v);
    weight_to_f32(w, v);
    return v;
}

static struct tensor *tensor(struct device *d, const char *name)
{
    const struct weight *w = stored(name);
    float *v = values(name);
    struct tensor *t = tensor_from_f32(d, w->ndim, w->shape, v);
    free(v);
    return t;
}

/* The weights of one of the networks. */
static struct named_weights named(enum net net)
{
    struct named_weights n;
    struct error e;
    if (names_resolve(&n, golden, net, PICK_RAW, &e) != 0)
        die("%s: %s", GOLDEN, e.text);
    return n;
}

static void compare(const struct device *d, const char *what, const struct tensor *t,
                    const char *name, double tolerance)
{
    size_t n = (size_t)tensor_count(t);
    float *got = xmalloc(n * sizeof *got), *expected = values(name);
    CHECK(weight_count(stored(name)) == (int64_t)n);
    tensor_to_f32(t, got);
    double error = relative_l2(got, expected, n);
    tap_ok(error <= tolerance, "%s on %s: error %.2g (<= %.2g)", what, subject_name(d), error,
           tolerance);
    free(got);
    free(expected);
}

/* size: of the terms whose sum is the number, if they nearly cancel; else 0. */
static void compare_number(const struct device *d, const char *what, double got, const char *key,
                           double size, double tolerance)
{
    double error = fabs(got - number(key)) / fmax(fabs(number(key)), size);
    tap_ok(error <= tolerance, "%s on %s: %.7g, expected %.7g", what, subject_name(d), got,
           number(key));
}

/* With 16 bits, max pooling picks other pixels and ReLU passes other units: PyTorch's own gradients
 * then differ by 0.058 and 0.12. */
static double gradient_tolerance(const struct device *d)
{
    return subject_tolerance(d, 2e-5, 0.12, 0.25);
}

/* What the tests on one device work on. */
struct subject {
    struct device *d;
    struct named_weights lpips_names, discriminator_names;
    struct lpips *lpips;
    struct parameters *parameters;
    struct reconstruction_loss *loss;
    struct tensor *images, *reconstructions, *last, *last_weight;
    struct tensor *weight, *distances, *found; /* found: RECONSTRUCTION_NUMBERS */
    int64_t n, numbers;                        /* images; elements of one */
};

static void open_subject(struct subject *s, struct device *d, int64_t disc_start,
                         int64_t accumulate)
{
    struct error e;
    *s = (struct subject){.d = d};
    s->lpips_names = named(NET_LPIPS);
    s->discriminator_names = named(NET_DISCRIMINATOR);
    struct reconstruction_loss_options o = {.perceptual_weight = number("perceptual_weight"),
                                            .disc_weight = number("disc_weight"),
                                            .disc_start = disc_start,
                                            .accumulate = accumulate};
    if (lpips_load(&s->lpips, &s->lpips_names, d, &e) != 0 ||
        parameters_from_names(&s->parameters, &s->discriminator_names, NULL, d, &e) ||
        reconstruction_loss_open(&s->loss, &o, s->lpips, s->parameters, collective_alone(), &e) !=
            0)
        die("%s", e.text);
    s->images = tensor(d, "pictures");
    s->reconstructions = tensor(d, "reconstructions");
    s->last_weight = tensor(d, "last_weight");
    struct tape t;
    struct tensor *last = tensor(d, "last");
    tape_init(&t, d);
    s->last = cast_to_compute(&t, last);
    tape_release(&t);
    tensor_release(last);
    s->n = s->images->shape[0];
    s->numbers = tensor_count(s->images) / s->n;
    s->weight = tensor_new(d, DTYPE_F64, DIMS(1));
    s->distances = tensor_new(d, DTYPE_F32, DIMS(s->n));
    s->found = tensor_new(d, DTYPE_F64, DIMS(RECONSTRUCTION_NUMBERS));
}

static void close_subject(struct subject *s)
{
    tensor_release(s->images);
    tensor_release(s->reconstructions);
    tensor_release(s->last);
    tensor_release(s->last_weight);
    tensor_release(s->weight);
    tensor_release(s->distances);
    tensor_release(s->found);
    reconstruction_loss_close(s->loss);
    parameters_free(s->parameters);
    lpips_free(s->lpips);
    names_release(&s->lpips_names);
    names_release(&s->discriminator_names);
}

/* The gradient of the absolute error, each image weighted by `weight`. */
static struct tensor *error_gradient(const struct subject *s, double weight)
{
    float *x = values("pictures"), *y = values("reconstructions");
    for (int64_t i = 0; i < s->n * s->numbers; i++)
        y[i] = (float)((y[i] > x[i]) - (y[i] < x[i])) * (float)(weight / (double)s->numbers);
    struct tensor *t = tensor_from_f32(s->d, s->images->ndim, s->images->shape, y);
    free(x);
    free(y);
    return t;
}

/* A micro-batch of step `step`, whose LPIPS are added to distances. */
static void run_micro_batch(const struct subject *s, int64_t step, double weight,
                            struct tensor **gradient, double *distances)
{
    bool judged = reconstruction_loss_judges(s->loss, step);
    double numbers[RECONSTRUCTION_NUMBERS];
    struct reconstruction r = {s->images, s->reconstructions, s->last, s->last_weight,
                               s->weight, s->distances,       s->found};
    tensor_upload(s->weight, &weight);
    reconstruction_loss_begin(s->loss, judged);
    reconstruction_loss_add(s->loss, judged, &r, gradient);
    reconstruction_loss_end(s->loss, judged);
    float *found = tensor_to_host(s->distances);
    s->d->backend->download(s->d, numbers, s->found->data, sizeof numbers);
    reconstruction_loss_note(s->loss, s->n, found, judged ? numbers : NULL);
    for (int64_t i = 0; i < s->n; i++)
        distances[i] += (double)found[i];
    free(found);
}

static void test_lpips(const struct subject *s)
{
    double tolerance = subject_tolerance(s->d, 2e-6, 3e-3, 3e-2);
    struct tensor *y = tensor_reshape(s->reconstructions, 4, s->reconstructions->shape);
    tensor_require_gradient(y);
    struct tape t;
    tape_init(&t, s->d);
    t.recording = true;
    struct tensor *distances = lpips_distance(&t, s->lpips, s->images, y);
    compare(s->d, "LPIPS", distances, "distances", tolerance);
    float *ones = xcalloc((size_t)s->n, sizeof *ones);
    for (int64_t i = 0; i < s->n; i++)
        ones[i] = 1;
    struct tensor *dy = tensor_from_f32(s->d, DIMS(s->n), ones);
    tape_backward(&t, distances, dy);
    compare(s->d, "LPIPS, gradient by reconstructions", y->gradient->value,
            "dreconstructions.perceptual", gradient_tolerance(s->d));
    tensor_release(distances);
    tensor_replace(&dy, NULL);
    t.recording = false;
    distances = lpips_distance(&t, s->lpips, s->images, s->images);
    float *zeros = ones;
    tensor_to_f32(distances, zeros);
    double most = 0;
    for (int64_t i = 0; i < s->n; i++)
        most = fmax(most, isfinite(zeros[i]) ? fabs((double)zeros[i]) : INFINITY);
    tap_ok(most == 0, "an image is at distance %g from itself on %s", most, subject_name(s->d));
    tensor_release(distances);
    tensor_release(y);
    free(ones);
    tape_release(&t);
}

static void test_logits(const struct subject *s)
{
    struct patch_discriminator *p;
    struct error e;
    struct tape t;
    if (patch_discriminator_load(&p, &s->discriminator_names, s->d, &e) != 0)
        die("%s", e.text);
    tape_init(&t, s->d);
    struct tensor *logits = patch_discriminator_logits(&t, p, s->images);
    compare(s->d, "logits of images", logits, "logits", subject_tolerance(s->d, 5e-6, 1e-2, 1e-1));
    tensor_release(logits);
    patch_discriminator_free(p);
    tape_release(&t);
}

static void compare_gradients_of(const struct subject *s)
{
    double worst = 0;
    const char *worst_name = "";
    for (int i = 0; i < s->parameters->trained_count; i++) {
        const struct parameter *t = &s->parameters->tensors[i];
        char *name = xasprintf("d.%s", t->name);
        float *scratch = xmalloc((size_t)t->count * sizeof *scratch), *want = values(name);
        float *got = xmalloc((size_t)t->count * sizeof *got);
        memcpy(got, parameters_read(s->parameters, ARRAY_GRADIENTS, t->offset, t->count, scratch),
               (size_t)t->count * sizeof *got);
        double scale = s->d->compute == DTYPE_F16 ? 4096 : 1;
        for (int64_t k = 0; k < t->count; k++)
            got[k] = (float)((double)got[k] / scale);
        double error = relative_l2(got, want, (size_t)t->count);
        if (!(error <= worst)) {
            worst = error;
            worst_name = t->name;
        }
        free(name);
        free(scratch);
        free(want);
        free(got);
    }
    double tolerance = subject_tolerance(s->d, 2e-5, 4e-2, 4e-1);
    tap_ok(worst <= tolerance,
           "gradients by the discriminator's %d parameters on %s: error %.2g (<= %.2g), of %s",
           s->parameters->trained_count, subject_name(s->d), worst, tolerance, worst_name);
}

static void test_losses(const struct subject *s)
{
    double loose = gradient_tolerance(s->d), weight = 1 / (double)s->n;
    struct tensor *gradient = error_gradient(s, weight);
    double *found = xcalloc((size_t)s->n, sizeof *found), sum = 0, want = 0;
    run_micro_batch(s, 5, weight, &gradient, found);
    compare(s->d, "all losses, gradient by reconstructions", gradient, "dreconstructions.total",
            loose);
    float *distances = values("distances");
    for (int64_t i = 0; i < s->n; i++) {
        sum += found[i];
        want += (double)distances[i];
    }
    tap_ok(fabs(sum - want) <= loose * want,
           "LPIPS computed with gradients on %s: %.6g, expected %.6g", subject_name(s->d), sum,
           want);
    struct reconstruction_numbers numbers = reconstruction_loss_numbers(s->loss);
    compare_number(s->d, "adaptive weight", numbers.weight, "weight", 0, loose);
    compare_number(s->d, "generator's loss", numbers.generator, "generator", 0.5, loose);
    compare_number(s->d, "discriminator's loss", numbers.discriminator, "discriminator", 0, loose);
    compare_number(s->d, "mean logit of images", numbers.logit, "logit", 0.5, loose);
    compare_number(s->d, "mean logit of reconstructions", numbers.fake_logit, "fake_logit", 0.5,
                   loose);
    compare_gradients_of(s);
    free(distances);
    free(found);
    tensor_release(gradient);
}

/* Before disc_start only LPIPS is added, and the discriminator is not trained. */
static void test_start(struct device *d)
{
    struct subject s;
    open_subject(&s, d, 6, 1);
    double losses[16] = {0}, weight = 0.25;
    CHECK(s.n <= 16);
    struct tensor *gradient = error_gradient(&s, weight), *zero = error_gradient(&s, 0);
    float *want = values("dreconstructions.perceptual");
    run_micro_batch(&s, 5, weight, &zero, losses);
    for (int64_t i = 0; i < s.n * s.numbers; i++)
        want[i] *= (float)(weight * number("perceptual_weight"));
    float *got = xmalloc((size_t)(s.n * s.numbers) * sizeof *got);
    tensor_to_f32(zero, got);
    double error = relative_l2(got, want, (size_t)(s.n * s.numbers));
    tap_ok(error <= gradient_tolerance(d),
           "before its start the discriminator adds no gradient on %s: error %.2g", subject_name(d),
           error);
    bool before = reconstruction_loss_update(s.loss, 5, 1e-3);
    int64_t updates = s.parameters->updates;
    tap_ok(!before && updates == 0 && isnan(reconstruction_loss_numbers(s.loss).discriminator),
           "before its start it is not trained");
    run_micro_batch(&s, 6, weight, &gradient, losses);
    double first = reconstruction_loss_numbers(s.loss).discriminator, last = NAN;
    for (int step = 6; step < 30; step++) {
        struct tensor *again = error_gradient(&s, weight);
        CHECK(reconstruction_loss_update(s.loss, step, 2e-3));
        run_micro_batch(&s, step, weight, &again, losses);
        last = reconstruction_loss_numbers(s.loss).discriminator;
        tensor_release(again);
    }
    tap_ok(
        last < 0.3 * first && s.parameters->updates == 24,
        "after its start it learns to tell images from reconstructions on %s: loss %.3f, then %.3f",
        subject_name(d), first, last);
    free(want);
    free(got);
    tensor_release(gradient);
    tensor_release(zero);
    close_subject(&s);
}

/* Two micro-batches of half the weight each equal one. */
static void test_accumulation(struct device *d)
{
    struct subject s;
    open_subject(&s, d, 0, 2);
    double losses[16] = {0}, weight = 0.5 / (double)s.n;
    for (int k = 0; k < 2; k++) {
        struct tensor *gradient = error_gradient(&s, weight);
        run_micro_batch(&s, 0, weight, &gradient, losses);
        tensor_release(gradient);
    }
    compare_gradients_of(&s);
    close_subject(&s);
}

static double sum_of(struct tensor *t)
{
    float host[64];
    double sum = 0;
    CHECK(tensor_count(t) <= 64);
    tensor_to_f32(t, host);
    for (int64_t i = 0; i < tensor_count(t); i++)
        sum += (double)host[i];
    tensor_release(t);
    return sum;
}

static void check_slope(const char *what, double slope, double expected, double tolerance)
{
    double error = fabs(slope - expected) / fabs(expected);
    tap_ok(error <= tolerance, "%s: slope %.6g, by finite differences %.6g", what, expected, slope);
}

/* The slope along the gradient's direction is the gradient's length. */
static void test_differences_of_lpips(const struct subject *s)
{
    size_t count = (size_t)(s->n * s->numbers);
    float *x = values("reconstructions"), *g = values("dreconstructions.perceptual");
    float *moved = xmalloc(count * sizeof *moved);
    double squares = 0, sums[2], h = 4e-3;
    for (size_t i = 0; i < count; i++)
        squares += (double)g[i] * g[i];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < count; i++)
            moved[i] = x[i] + (float)((side ? h : -h) * g[i] / sqrt(squares));
        struct tensor *y = tensor_from_f32(s->d, 4, s->reconstructions->shape, moved);
        struct tape t;
        tape_init(&t, s->d);
        sums[side] = sum_of(lpips_distance(&t, s->lpips, s->images, y));
        tensor_release(y);
        tape_release(&t);
    }
    check_slope("LPIPS along its gradient", (sums[1] - sums[0]) / (2 * h), sqrt(squares), 5e-3);
    free(x);
    free(g);
    free(moved);
}

static double hinge(const struct subject *s, const struct patch_discriminator *p)
{
    struct tape t;
    double loss = 0;
    tape_init(&t, s->d);
    for (int fake = 0; fake < 2; fake++) {
        struct tensor *logits =
            patch_discriminator_logits(&t, p, fake ? s->reconstructions : s->images);
        int64_t count = tensor_count(logits);
        float *host = xmalloc((size_t)count * sizeof *host);
        tensor_to_f32(logits, host);
        for (int64_t i = 0; i < count; i++)
            loss += fmax(0, fake ? 1 + host[i] : 1 - host[i]) / (double)(2 * count);
        free(host);
        tensor_release(logits);
    }
    tape_release(&t);
    return loss;
}

static void test_differences_of_discriminator(const struct subject *s)
{
    struct named_weights names;
    struct patch_discriminator *p;
    struct error e;
    double h = 1e-3;
    parameters_names(&names, s->parameters, ARRAY_WEIGHTS);
    if (patch_discriminator_load(&p, &names, s->d, &e) != 0)
        die("%s", e.text);
    for (int i = 0; i < s->parameters->trained_count; i++) {
        const struct parameter *t = &s->parameters->tensors[i];
        char *name = xasprintf("d.%s", t->name);
        float *g = values(name),
              *at = (float *)s->parameters->arrays[ARRAY_WEIGHTS]->data + t->offset;
        float *before = xmalloc((size_t)t->count * sizeof *before);
        double squares = 0, losses[2];
        memcpy(before, at, (size_t)t->count * sizeof *before);
        for (int64_t k = 0; k < t->count; k++)
            squares += (double)g[k] * g[k];
        for (int side = 0; side < 2; side++) {
            for (int64_t k = 0; k < t->count; k++)
                at[k] = before[k] + (float)((side ? h : -h) * g[k] / sqrt(squares));
            losses[side] = hinge(s, p);
        }
        memcpy(at, before, (size_t)t->count * sizeof *before);
        char *what = xasprintf("the discriminator's loss along its gradient by %s", t->name);
        check_slope(what, (losses[1] - losses[0]) / (2 * h), sqrt(squares), 2e-2);
        free(what);
        free(name);
        free(g);
        free(before);
    }
    patch_discriminator_free(p);
    names_release(&names);
}

/* The two losses whose gradients by the last kernel define the adaptive weight, as functions of it.
 */
struct of_last {
    const struct subject *s;
    const struct patch_discriminator *p;
    struct tensor *bias;
};

static void losses_of_last(const struct of_last *f, struct tensor *kernel, double *nll,
                           double *generator)
{
    const struct subject *s = f->s;
    float *x = values("pictures");
    struct tape t;
    tape_init(&t, s->d);
    struct tensor *y = conv2d(&t, s->last, kernel, f->bias, 1, 1, 1);
    tensor_replace(&y, to_nchw(&t, y));
    const float *made = y->data;
    *nll = 0;
    for (int64_t i = 0; i < s->n * s->numbers; i++)
        *nll += fabs((double)made[i] - x[i]) / (double)(s->n * s->numbers);
    *nll += number("perceptual_weight") * sum_of(lpips_distance(&t, s->lpips, s->images, y)) /
            (double)s->n;
    struct tensor *logits = patch_discriminator_logits(&t, f->p, y);
    double count = (double)tensor_count(logits);
    *generator = -sum_of(logits) / count;
    tensor_release(y);
    tape_release(&t);
    free(x);
}

static void test_differences_of_weight(const struct subject *s)
{
    struct patch_discriminator *p;
    struct error e;
    if (patch_discriminator_load(&p, &s->discriminator_names, s->d, &e) != 0)
        die("%s", e.text);
    struct of_last f = {s, p, tensor(s->d, "last_bias")};
    struct tensor *kernel = tensor(s->d, "last_weight");
    float *at = kernel->data;
    double squares[2] = {0}, h = 4e-3;
    for (int64_t i = 0; i < tensor_count(kernel); i++) {
        double nll[2], generator[2];
        float before = at[i];
        for (int side = 0; side < 2; side++) {
            at[i] = before + (float)(side ? h : -h);
            losses_of_last(&f, kernel, &nll[side], &generator[side]);
        }
        at[i] = before;
        squares[0] += pow((nll[1] - nll[0]) / (2 * h), 2);
        squares[1] += pow((generator[1] - generator[0]) / (2 * h), 2);
    }
    double w = number("disc_weight") * sqrt(squares[0]) / (sqrt(squares[1]) + 1e-4);
    check_slope("the adaptive weight", w, number("weight"), 2e-2);
    tensor_release(kernel);
    tensor_release(f.bias);
    patch_discriminator_free(p);
}

int main(void)
{
    struct error e;
    if (!file_exists(GOLDEN)) {
        tap_skip("no such file", "%s", GOLDEN);
        return tap_done();
    }
    if (weights_open(&golden, GOLDEN, &e) != 0)
        die("cannot read '%s': %s", GOLDEN, e.text);
    for (const char *const *spec = subject_devices(); *spec; spec++) {
        struct device *d = subject_open(*spec);
        struct subject s;
        open_subject(&s, d, 5, 1);
        test_lpips(&s);
        test_logits(&s);
        test_losses(&s);
        test_start(d);
        test_accumulation(d);
        if (d->host_memory) {
            test_differences_of_lpips(&s);
            test_differences_of_discriminator(&s);
            test_differences_of_weight(&s);
        }
        close_subject(&s);
        device_close(d);
    }
    weights_close(golden);
    return tap_done();
}
