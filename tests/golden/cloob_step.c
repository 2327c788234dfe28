/* CLOOB's training step against the reference's loss and autograd: in one micro-batch, and with one
 * micro-batch per pair. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/cloob_step.h"
#include "tests/support/golden.h"
#include "tests/support/golden_gradients.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

#define TOLERANCE_LOSS      1e-4
#define TOLERANCE_LOSS_BF16 2e-2

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
    char *how = xasprintf("in %" PRId64 " micro-batches", accumulate);
    golden_gradients_check(g, p, 1, how);
    free(how);
    struct step_result r;
    cloob_step_update(s, 0, 1, &r);
    const char *on = subject_name(d);
    double error = fabs(r.loss - loss[0]) / fabs(loss[0]);
    double most = subject_tolerance(d, TOLERANCE_LOSS, TOLERANCE_LOSS, TOLERANCE_LOSS_BF16);
    tap_ok(error <= most,
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
