/* Losses and gradients of an autoencoder's training step against the reference's: in one batch, in
 * micro-batches and with the encoder frozen. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/train/autoencoder_step.h"
#include "tests/support/golden.h"
#include "tests/support/golden_gradients.h"
#include "tests/support/subject.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"

#define TOLERANCE_LOSS      1e-4
#define TOLERANCE_LOSS_BF16 2e-2

struct expected {
    const struct golden *golden;
    float *images, *noise;
    int64_t n, latent;
    int height, width;
    double kl, loss;
};

static double read_number(const struct golden *g, const char *name)
{
    float *x = golden_read(g, name);
    double number = x[0];
    free(x);
    return number;
}

static void expected_init(struct expected *x, const struct golden *g)
{
    const struct weight *image = golden_find(g, "in.image"), *z = golden_find(g, "in.z");
    *x = (struct expected){
        .golden = g,
        .images = golden_read(g, "in.image"),
        .n = image->shape[0],
        .latent = weight_count(z) / z->shape[0],
        .height = (int)image->shape[2],
        .width = (int)image->shape[3],
        .kl = read_number(g, "out.kl"),
        .loss = read_number(g, "out.loss"),
    };
    size_t count = (size_t)weight_count(z);
    x->noise = xmalloc(count * sizeof *x->noise);
    synth_data(x->noise, count, "eps", (uint64_t)golden_int(g, "seed"), SYNTH_DATA_SCALE);
}

static void check_close(const struct expected *x, struct device *d, const char *how,
                        const char *what, double ours, double theirs)
{
    double error = fabs(ours - theirs) / fabs(theirs);
    double most = subject_tolerance(d, TOLERANCE_LOSS, TOLERANCE_LOSS, TOLERANCE_LOSS_BF16);
    tap_ok(error <= most, "%s: %s on %s, %s: %.6f, relative error %.2g (<= %.0e)", x->golden->name,
           what, subject_name(d), how, ours, error, most);
}

static void run(const struct expected *x, struct device *d, int64_t batch, bool fixed,
                const char *how)
{
    struct parameters *p;
    struct error e;
    struct autoencoder_step *s;
    struct step_result r;
    struct step_options o = {.batch = batch,
                             .accumulate = x->n / batch,
                             .adamw = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8}};
    struct autoencoder_step_options a = {.kl_weight = 1e-6};
    bool (*is_fixed)(const char *) = fixed ? autoencoder_is_encoder : NULL;
    if (parameters_from_names(&p, &x->golden->names, is_fixed, d, &e) != 0 ||
        autoencoder_step_open(&s, p, collective_alone(), &o, &a, &e) != 0)
        die("'%s': %s", x->golden->name, e.text);
    double scale = autoencoder_step_updater(s)->loss_scale.scale;
    uint64_t *samples = xcalloc((size_t)x->n, sizeof *samples);
    int64_t image = 3 * (int64_t)x->height * x->width;
    for (int64_t k = 0; k < o.accumulate; k++) {
        int64_t at = k * batch;
        struct autoencoder_batch part = {batch, x->height, x->width, x->images + at * image,
                                         samples + at};
        autoencoder_step_micro_batch_drawn(s, 0, &part, x->noise + at * x->latent);
    }
    autoencoder_step_update(s, 0, 0, &r);
    struct autoencoder_losses losses = autoencoder_step_losses(s);
    check_close(x, d, how, "KL divergence", losses.kl, x->kl);
    check_close(x, d, how, "loss", losses.total, fixed ? x->loss - 1e-6 * x->kl : x->loss);
    golden_gradients_check(x->golden, p, scale, how);
    free(samples);
    autoencoder_step_close(s);
    parameters_free(p);
}

static void check_file(const char *folder, const char *name, const char *device)
{
    struct golden g;
    struct expected x;
    if (!golden_open(&g, folder, name))
        return;
    struct device *d = subject_open(device);
    expected_init(&x, &g);
    run(&x, d, x.n, false, "one batch");
    run(&x, d, 1, false, "image by image");
    run(&x, d, x.n, true, "decoder only");
    tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", g.name,
           subject_name(d));
    free(x.images);
    free(x.noise);
    device_close(d);
    golden_close(&g);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    message_init("autoencoder");
    for (const char *const *device = subject_devices(); *device; device++)
        check_file(folder, "kl_tiny", *device);
    return tap_done();
}
