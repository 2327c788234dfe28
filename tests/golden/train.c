/* Ten training steps against PyTorch's: losses, weights and their exponential moving average. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/unet_step.h"
#include "tests/support/golden.h"
#include "tests/support/subject.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"

/* For learning rates up to 1e-4; above, errors grow in proportion. */
#define TOLERANCE_LOSS   1e-3 /* relative */
#define TOLERANCE_WEIGHT 1e-5
#define TOLERANCE_NORM   5e-5 /* relative: PyTorch's own sum of squares is accurate to 2e-5 */
#define TOLERANCE_SHARE  0.05
#define TOLERANCE_BF16   2e-2 /* losses */
#define SIDE             32
#define SMALL_STEPS      2

static void data(float *out, size_t n, const char *what, int64_t step, uint64_t seed, double scale)
{
    char *name = xasprintf("%s.%" PRId64, what, step);
    synth_data(out, n, name, seed, scale);
    free(name);
}

static struct tensor *noise(struct device *d, int64_t n, int64_t z, const char *what, int64_t step,
                            uint64_t seed)
{
    size_t count = (size_t)(n * z * SIDE * SIDE);
    float *host = xmalloc(count * sizeof *host);
    data(host, count, what, step, seed, SYNTH_DATA_SCALE);
    struct tensor *t = tensor_from_f32(d, DIMS(n, z, SIDE, SIDE), host);
    free(host);
    return t;
}

/* Runs micro-batch number `step` of the file (tests/golden/data/README.md). */
static void micro_batch(struct unet_step *s, struct device *d, int64_t n, int64_t step,
                        uint64_t seed)
{
    int64_t z = unet_step_sizes(s)->latent_channels, width = unet_step_sizes(s)->embed_width;
    size_t latent = (size_t)(z * SIDE * SIDE), count = (size_t)n * latent;
    float *mean = xmalloc(2 * count * sizeof *mean), *logvar = mean + count;
    float *moments = xmalloc(2 * count * sizeof *moments);
    float *embeds = xmalloc((size_t)(n * width) * sizeof *embeds);
    float *t = xmalloc(2 * (size_t)n * sizeof *t), *drop = t + n;
    uint64_t *ids = xcalloc((size_t)n, sizeof *ids);
    struct unet_step_sample *samples = xcalloc((size_t)n, sizeof *samples);
    data(mean, count, "mean", step, seed, SYNTH_DATA_SCALE);
    data(logvar, count, "logvar", step, seed, 1);
    data(embeds, (size_t)(n * width), "cond", step, seed, SYNTH_DATA_SCALE);
    data(t, (size_t)n, "t", step, seed, 1);
    data(drop, (size_t)n, "drop", step, seed, 1);
    for (size_t i = 0; i < count; i++)
        logvar[i] -= 3;
    for (int64_t i = 0; i < n; i++) {
        float *to = moments + 2 * (size_t)i * latent;
        memcpy(to, mean + (size_t)i * latent, latent * sizeof *to);
        memcpy(to + latent, logvar + (size_t)i * latent, latent * sizeof *to);
        samples[i].t = t[i] / 2 + 0.5f;
        samples[i].dropped = !(drop[i] / 2 + 0.5f > 0.2f);
    }
    struct unet_batch b = {n, SIDE, SIDE, moments, embeds, ids};
    struct unet_step_noise drawn = {noise(d, n, z, "posterior", step, seed),
                                    noise(d, n, z, "noise", step, seed)};
    unet_step_micro_batch_drawn(s, &b, &drawn, samples);
    tensor_release(drawn.posterior);
    tensor_release(drawn.diffusion);
    free(mean);
    free(moments);
    free(embeds);
    free(t);
    free(ids);
    free(samples);
}

/* Adam moves a weight by the whole learning rate whatever the sign of a gradient close to zero, and
 * a ReLU's input may cross zero: after ten steps at 1e-4, up to 1% of the weights in PyTorch's
 * float32 are more than TOLERANCE_WEIGHT from its double, a few of them by 1e-4. Single weights
 * beyond the tolerance are therefore counted, and the root mean square is bounded. */
struct difference {
    double worst, squares, tolerance;
    int64_t elements, beyond;
};

static double error_growth(const struct golden *g)
{
    return fmax(1, golden_double(g, "lr") / 1e-4);
}

static void compare(struct difference *d, const struct golden *g, const char *kind,
                    const char *name, const float *ours, double scale)
{
    char *full = xasprintf("%s.%s", kind, name);
    float *theirs = golden_read(g, full);
    int64_t n = weight_count(golden_find(g, full));
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)ours[i] - theirs[i]) / scale;
        d->worst = error <= d->worst ? d->worst : error;
        d->squares += error * error;
        d->beyond += !(error <= d->tolerance);
    }
    d->elements += n;
    free(theirs);
    free(full);
}

static int count_kind(const struct golden *g, const char *prefix)
{
    int count = 0;
    for (int i = 0; i < weights_count(g->file); i++)
        count += !strncmp(weights_at(g->file, i)->name, prefix, strlen(prefix));
    return count;
}

static void check_weights(const struct golden *g, const struct parameters *p)
{
    double growth = error_growth(g), decay = golden_double(g, "ema_decay");
    struct difference norms = {.tolerance = TOLERANCE_NORM * growth};
    struct difference heads = {.tolerance = TOLERANCE_WEIGHT * growth};
    /* A decay below 0.99 passes more of a weight's error on to the average. */
    struct difference ema = {.tolerance = heads.tolerance * fmax(1, (1 - decay) / 0.01)};
    const char *on = subject_name(p->device);
    for (int i = 0; i < p->count; i++) {
        const struct parameter *t = &p->tensors[i];
        float *scratch = xmalloc((size_t)t->count * sizeof *scratch);
        const float *raw = parameters_read(p, ARRAY_WEIGHTS, t->offset, t->count, scratch);
        double squares = 0;
        for (int64_t j = 0; j < t->count; j++)
            squares += (double)raw[j] * raw[j];
        float norm = (float)sqrt(squares);
        compare(&norms, g, "norm", t->name, &norm, norm);
        compare(&heads, g, "head", t->name, raw, 1);
        compare(&ema, g, "ema_head", t->name,
                parameters_read(p, ARRAY_EMA, t->offset, t->count, scratch), 1);
        free(scratch);
    }
    tap_ok(count_kind(g, "head.") == p->count && count_kind(g, "ema_head.") == p->count,
           "%s: %d tensors", g->name, p->count);
    double rms = sqrt(heads.squares / (double)heads.elements);
    tap_ok(norms.worst <= norms.tolerance, "%s: norm.* on %s: worst %.2g of it (<= %.0e)", g->name,
           on, norms.worst, norms.tolerance);
    tap_ok(ema.worst <= ema.tolerance, "%s: ema_head.* on %s: worst %.2g (<= %.0e)", g->name, on,
           ema.worst, ema.tolerance);
    tap_ok(rms <= heads.tolerance &&
               (double)heads.beyond <= TOLERANCE_SHARE * (double)heads.elements,
           "%s: head.* on %s: rms %.2g (<= %.0e), %" PRId64 " of %" PRId64
           " beyond that (<= %.0f%%), worst %.2g",
           g->name, on, rms, heads.tolerance, heads.beyond, heads.elements, 100 * TOLERANCE_SHARE,
           heads.worst);
}

static void check_device(const struct golden *g, const char *device)
{
    struct device *d = subject_open(device);
    struct parameters *p;
    struct unet_step *s;
    struct error e;
    int64_t batch = golden_int(g, "batch"), steps = golden_int(g, "steps");
    if (subject_small() && steps > SMALL_STEPS)
        steps = SMALL_STEPS;
    struct step_options options = {.batch = batch, .accumulate = 1, .adamw = ADAMW_DEFAULTS};
    struct unet_step_options unet = {.autoencoder_scale = golden_double(g, "autoencoder_scale")};
    options.adamw.weight_decay = golden_double(g, "weight_decay");
    if (parameters_from_names(&p, &g->names, NULL, d, &e) != 0 ||
        unet_step_open(&s, p, collective_alone(), &options, &unet, &e) != 0)
        die("'%s': %s", g->name, e.text);
    float *losses = golden_read(g, "losses");
    double tolerance =
        subject_tolerance(d, TOLERANCE_LOSS, TOLERANCE_LOSS, TOLERANCE_BF16) * error_growth(g);
    for (int64_t i = 0; i < steps; i++) {
        struct step_result r;
        micro_batch(s, d, batch, i, (uint64_t)golden_int(g, "seed"));
        unet_step_update(s, golden_double(g, "lr"), golden_double(g, "ema_decay"), &r);
        double error = fabs(r.loss - losses[i]) / fabs(losses[i]);
        tap_ok(r.applied && error <= tolerance,
               "%s: loss of step %" PRId64 " on %s: %.6f, relative error %.2g (<= %.0e)", g->name,
               i, subject_name(d), r.loss, error, tolerance);
    }
    if (steps < golden_int(g, "steps"))
        tap_skip("too much work for an emulated GPU",
                 "%s: steps %" PRId64 " to %" PRId64 ", and the weights", g->name, steps,
                 golden_int(g, "steps") - 1);
    else if (d->compute == DTYPE_F32) /* in bf16 the sign of a small gradient is noise */
        check_weights(g, p);
    free(losses);
    unet_step_close(s);
    parameters_free(p);
    tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", g->name,
           subject_name(d));
    device_close(d);
}

int main(int argc, char **argv)
{
    struct golden g;
    message_init(argv[0]);
    threads_init(0);
    if (golden_open(&g, argc > 1 ? argv[1] : "tests/golden/data", "train_tiny")) {
        check_device(&g, argc > 2 ? argv[2] : subject_devices()[0]);
        golden_close(&g);
    }
    return tap_done();
}
