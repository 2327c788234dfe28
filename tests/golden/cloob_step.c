/* CLOOB's training step against the reference's loss and autograd: in one micro-batch, and with one
 * micro-batch per pair. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/cloob_step.h"
#include "tests/support/golden.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

#define TOLERANCE_LOSS          1e-4
#define TOLERANCE_GRADIENT      5e-3
#define TOLERANCE_LOSS_BF16     2e-2
#define TOLERANCE_GRADIENT_BF16 4e-2
/* Gradients that should be zero, such as that of a key's bias, which attention cancels, are only
 * rounding errors, below this share of the largest. */
#define NOTHING 1e-5

static double norm_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static double golden_norm(const struct golden *g, const struct parameter *t)
{
    char *name = xasprintf("gnorm.%s", t->name);
    float *norm = golden_read(g, name);
    double value = norm[0];
    free(norm);
    free(name);
    return value;
}

/* Worst relative error of the norms of the tensors' gradients; whose: the tensor. */
static double worst_norm(const struct golden *g, const struct parameters *p, const char **whose)
{
    double largest = 0, worst = 0;
    for (int i = 0; i < p->trained_count; i++)
        largest = fmax(largest, golden_norm(g, &p->tensors[i]));
    *whose = "";
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        float *scratch = xmalloc((size_t)t->count * sizeof *scratch);
        double norm = golden_norm(g, t);
        double ours =
            norm_of(parameters_read(p, ARRAY_GRADIENTS, t->offset, t->count, scratch), t->count);
        double error = fabs(ours - norm) / fmax(norm, NOTHING * largest);
        if (!(error <= worst)) {
            worst = error;
            *whose = t->name;
        }
        free(scratch);
    }
    return worst;
}

/* Worst error of the first elements of each gradient, relative to the largest of them or to the
 * gradient's root mean square, whichever is larger. */
static double worst_head(const struct golden *g, const struct parameters *p)
{
    double largest = 0, worst = 0;
    for (int i = 0; i < p->trained_count; i++)
        largest = fmax(largest, golden_norm(g, &p->tensors[i]));
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        char *name = xasprintf("ghead.%s", t->name);
        float *head = golden_read(g, name), *scratch = xmalloc((size_t)t->count * sizeof *scratch);
        const float *ours = parameters_read(p, ARRAY_GRADIENTS, t->offset, t->count, scratch);
        int64_t n = weight_count(golden_find(g, name));
        double scale = fmax(golden_norm(g, t), NOTHING * largest) / sqrt((double)t->count);
        for (int64_t j = 0; j < n; j++)
            scale = fmax(scale, fabs(head[j]));
        for (int64_t j = 0; j < n; j++) {
            double error = fabs(ours[j] - head[j]) / scale;
            worst = error <= worst ? worst : error;
        }
        free(scratch);
        free(head);
        free(name);
    }
    return worst;
}

static void check_split(const struct golden *g, struct device *d, int64_t accumulate)
{
    struct parameters *p;
    struct cloob_step *s;
    struct error e;
    const struct weight *rows = golden_find(g, "in.tokens");
    int64_t n = rows->shape[0] / accumulate, width = rows->shape[1];
    float *images = golden_read(g, "in.rgb"), *loss = golden_read(g, "out.loss");
    int64_t pixels = weight_count(golden_find(g, "in.rgb")) / rows->shape[0];
    int32_t *tokens = xmalloc(weight_bytes(rows));
    uint64_t *samples = xcalloc((size_t)n, sizeof *samples);
    weight_copy(rows, tokens);
    struct step_options o = {.batch = n, .accumulate = accumulate, .adamw = ADAMW_DEFAULTS};
    struct cloob_step_options l = {.inv_tau = golden_config(g, "inv_tau"),
                                   .scale_hopfield = golden_config(g, "scale_hopfield")};
    if (parameters_from_names(&p, &g->names, NULL, d, &e) != 0 ||
        cloob_step_open(&s, p, collective_alone(), &o, &l, &e) != 0)
        die("'%s': %s", g->name, e.text);
    for (int64_t k = 0; k < accumulate; k++) {
        struct cloob_batch batch = {n, images + k * n * pixels, tokens + k * n * width, samples};
        cloob_step_micro_batch(s, &batch);
    }
    cloob_step_gradients(s);
    const char *whose, *on = subject_name(d);
    double of_loss = subject_tolerance(d, TOLERANCE_LOSS, TOLERANCE_LOSS, TOLERANCE_LOSS_BF16);
    double of_gradient =
        subject_tolerance(d, TOLERANCE_GRADIENT, TOLERANCE_GRADIENT, TOLERANCE_GRADIENT_BF16);
    double norm = worst_norm(g, p, &whose), head = worst_head(g, p);
    tap_ok(norm <= of_gradient, "%s: gnorm.* in %" PRId64 " micro-batches on %s: worst %.2g, '%s'",
           g->name, accumulate, on, norm, whose);
    tap_ok(head <= 4 * of_gradient, "%s: ghead.* in %" PRId64 " micro-batches on %s: worst %.2g",
           g->name, accumulate, on, head);
    struct step_result r;
    cloob_step_update(s, 0, 1, &r);
    double error = fabs(r.loss - loss[0]) / fabs(loss[0]);
    tap_ok(error <= of_loss,
           "%s: out.loss in %" PRId64 " micro-batches on %s: %.6f, relative error %.2g", g->name,
           accumulate, on, r.loss, error);
    cloob_step_close(s);
    parameters_free(p);
    free(images);
    free(tokens);
    free(samples);
    free(loss);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    const char *const *devices = subject_devices();
    struct golden g;
    message_init(argv[0]);
    threads_init(0);
    if (!golden_open(&g, folder, "cloob_tiny"))
        return tap_done();
    int64_t pairs = golden_find(&g, "in.tokens")->shape[0];
    for (int j = 0; devices[j]; j++) {
        struct device *d = subject_open(devices[j]);
        check_split(&g, d, 1);
        check_split(&g, d, pairs);
        tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", g.name,
               subject_name(d));
        device_close(d);
    }
    golden_close(&g);
    return tap_done();
}
