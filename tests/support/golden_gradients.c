#include "tests/support/golden_gradients.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

#define TOLERANCE 5e-3
/* Of first elements. Another order of summation may move a ReLU's input across zero; the gradients
 * of a single channel then change by one pixel's share. U-Nets alone have ReLUs. */
#define TOLERANCE_HEAD      2e-2
#define TOLERANCE_HEAD_RELU 0.2
/* Of norms: the root mean square over all tensors, and the worst. That one is a draw of the noise
 * of rounding, of which devices and instruction sets of the same root mean square differ by a
 * factor of three: the gradient of a bias is a sum over pixels that nearly cancel. */
#define TOLERANCE_NORMS_BF16 1.2e-2 /* of U-Nets */
#define TOLERANCE_SMALL_BF16 3e-2   /* the small gradients of the others are noisier */
#define TOLERANCE_NORM_BF16  0.15
#define TOLERANCE_HEADS_BF16 0.1
#define TOLERANCE_HEAD_BF16  1.0
/* Gradients that should be zero, such as that of a key's bias, which attention cancels, are only
 * rounding errors, below this share of the largest. */
#define NOTHING      1e-5
#define NOTHING_BF16 3e-3

struct bounds {
    double nothing, norms, norm, heads, head;
};

static struct bounds bounds_of(const struct golden *g, const struct device *d)
{
    bool unet = g->net == NET_UNET;
    double head = unet ? TOLERANCE_HEAD_RELU : TOLERANCE_HEAD;
    double norms = unet ? TOLERANCE_NORMS_BF16 : TOLERANCE_SMALL_BF16;
    return (struct bounds){
        .nothing = subject_tolerance(d, NOTHING, NOTHING, NOTHING_BF16),
        .norms = subject_tolerance(d, TOLERANCE, TOLERANCE, norms),
        .norm = subject_tolerance(d, TOLERANCE, TOLERANCE, TOLERANCE_NORM_BF16),
        .heads = subject_tolerance(d, TOLERANCE, TOLERANCE, TOLERANCE_HEADS_BF16),
        .head = subject_tolerance(d, head, head, TOLERANCE_HEAD_BF16),
    };
}

/* The largest error so far and its tensor; `squares` for the root mean square. */
struct worst {
    double error, squares;
    const char *name;
};

static void worst_add(struct worst *w, double error, const char *name)
{
    w->squares += error * error;
    if (!(error <= w->error)) {
        w->error = error;
        w->name = name;
    }
}

static double norm_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static double golden_norm(const struct golden *g, const char *tensor)
{
    char *name = xasprintf("gnorm.%s", tensor);
    float *norm = golden_read(g, name);
    double value = norm[0];
    free(norm);
    free(name);
    return value;
}

/* Worst error of a gradient's first elements, relative to the largest of them or to the gradient's
 * root mean square, whichever is larger. */
static double head_error(const struct golden *g, const struct parameter *t, const float *ours,
                         double scale, double norm)
{
    char *name = xasprintf("ghead.%s", t->name);
    float *head = golden_read(g, name);
    int64_t n = weight_count(golden_find(g, name));
    double largest = norm / sqrt((double)t->count), error = 0;
    CHECK(n <= t->count);
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(head[i]));
    for (int64_t i = 0; i < n; i++) {
        double e = fabs(ours[i] / scale - head[i]) / largest;
        error = e <= error ? error : e;
    }
    free(head);
    free(name);
    return error;
}

void golden_gradients_check(const struct golden *g, const struct parameters *p, double scale,
                            const char *how)
{
    struct worst norms = {.name = ""}, heads = {.name = ""};
    struct bounds most = bounds_of(g, p->device);
    double largest = 0;
    for (int i = 0; i < p->trained_count; i++)
        largest = fmax(largest, golden_norm(g, p->tensors[i].name));
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        double norm = golden_norm(g, t->name), of = fmax(norm, most.nothing * largest);
        float *scratch = xmalloc((size_t)t->count * sizeof *scratch);
        const float *ours = parameters_read(p, ARRAY_GRADIENTS, t->offset, t->count, scratch);
        worst_add(&norms, fabs(norm_of(ours, t->count) / scale - norm) / of, t->name);
        worst_add(&heads, head_error(g, t, ours, scale, of), t->name);
        free(scratch);
    }
    const char *on = subject_name(p->device);
    double norms_mean = sqrt(norms.squares / p->trained_count);
    double heads_mean = sqrt(heads.squares / p->trained_count);
    tap_ok(norms_mean <= most.norms && norms.error <= most.norm,
           "%s: gnorm.* of %d tensors %s on %s: mean %.2g (<= %.1e), worst %.2g (<= %.2g), '%s'",
           g->name, p->trained_count, how, on, norms_mean, most.norms, norms.error, most.norm,
           norms.name);
    tap_ok(heads_mean <= most.heads && heads.error <= most.head,
           "%s: ghead.* %s on %s: mean %.2g (<= %.0e), worst %.2g (<= %.2g), '%s'", g->name, how,
           on, heads_mean, most.heads, heads.error, most.head, heads.name);
}
