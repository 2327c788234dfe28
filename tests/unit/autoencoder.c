/* Training of the KL autoencoder: its step, a fixed encoder, checkpoints, and image quality
 * metrics. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/fit/autoencoder.h"
#include "common/images/quality.h"
#include "tests/support/tap.h"
#include "tests/support/trained.h"

#define SIDE   16
#define FACTOR 2
#define Z      2
#define MOST   8 /* images */
#define NUMBER (3 * SIDE * SIDE)

static struct device *device;
static float images[MOST][NUMBER];
static const uint64_t samples[MOST] = {3, 1, 4, 11, 5, 9, 2, 6};

/* Draws discs on gradients: images that a small autoencoder can learn. */
static void draw_images(void)
{
    for (int i = 0; i < MOST; i++) {
        float u[8];
        rng_uniform(u, 8, 7, RNG_SHAPES, 0, (uint64_t)i, 0);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                float dx = (float)x - 16 * u[0], dy = (float)y - 16 * u[1];
                bool in = dx * dx + dy * dy < 9 + 16 * u[2];
                for (int c = 0; c < 3; c++)
                    images[i][c * SIDE * SIDE + y * SIDE + x] =
                        in ? 2 * u[3 + c] - 1 : u[6] * (float)x / SIDE - 0.5f * u[7];
            }
    }
}

struct settings {
    struct step_options step;
    struct autoencoder_step_options loss;
};

static struct settings options(int64_t batch, int64_t accumulate)
{
    return (struct settings){
        .step = {.seed = 11,
                 .batch = batch,
                 .accumulate = accumulate,
                 .adamw = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8}},
        .loss = {.kl_weight = 1e-5},
    };
}

static struct parameters *make_parameters(struct device *d)
{
    struct kl_config sizes = {
        .latent_channels = Z, .base_channels = 32, .multipliers = {1, 2}, .levels = 2, .blocks = 1};
    struct architecture architecture = {0};
    kl_architecture(&architecture, &sizes);
    struct parameters *p = parameters_new(&architecture, NET_KL, 3, d);
    architecture_release(&architecture);
    return p;
}

/* The same weights, with the encoder's fixed. */
static struct parameters *fixed_parameters(const struct parameters *p)
{
    struct named_weights names;
    struct parameters *fixed;
    struct error e;
    parameters_names(&names, p, ARRAY_WEIGHTS);
    if (parameters_from_names(&fixed, &names, autoencoder_is_encoder, device, &e) != 0)
        die("%s", e.text);
    names_release(&names);
    return fixed;
}

static struct autoencoder_step *open_step(struct parameters *p, struct settings o)
{
    struct autoencoder_step *s;
    struct error e;
    if (autoencoder_step_open(&s, p, collective_alone(), &o.step, &o.loss, &e) != 0)
        die("%s", e.text);
    return s;
}

static struct autoencoder_batch batch_at(int64_t at, int64_t n)
{
    return (struct autoencoder_batch){
        .n = n, .height = SIDE, .width = SIDE, .images = images[at], .samples = samples + at};
}

struct outcome {
    struct step_result step;
    struct autoencoder_losses losses;
};

static struct outcome update(struct autoencoder_step *s, int64_t step, int64_t batch,
                             int64_t accumulate, double rate)
{
    struct step_result r;
    for (int64_t k = 0; k < accumulate; k++) {
        struct autoencoder_batch b = batch_at(k * batch, batch);
        autoencoder_step_micro_batch(s, step, &b);
    }
    autoencoder_step_update(s, rate, 0.9, &r);
    return (struct outcome){.step = r, .losses = autoencoder_step_losses(s)};
}

static const float *array(const struct parameters *p, enum parameter_array which,
                          const struct parameter *t)
{
    return parameters_read(p, which, t->offset, t->count, NULL);
}

/* Relative L2 distance from p, over the tensors that p trains. */
static double apart(const struct parameters *a, const struct parameters *p,
                    enum parameter_array which)
{
    double error = 0, norm = 0;
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *theirs = &p->tensors[i], *ours = parameters_find(a, theirs->name);
        const float *x = array(a, which, ours), *y = array(p, which, theirs);
        for (int64_t k = 0; k < ours->count; k++) {
            error += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
            norm += (double)y[k] * y[k];
        }
    }
    return sqrt(error / norm);
}

/* The reconstruction error of five numbers, with its gradient times `weight` in dy. */
static double error_of(const float *x, const float *y, bool squared, double weight, float *dy)
{
    struct tensor *t[2] = {tensor_from_f32(device, DIMS(1, 5), x),
                           tensor_from_f32(device, DIMS(1, 5), y)};
    struct tensor *by = tensor_new(device, DTYPE_F64, DIMS(1)),
                  *loss = tensor_new(device, DTYPE_F64, DIMS(1)),
                  *gradient = tensor_new(device, DTYPE_F32, DIMS(1, 5));
    tensor_upload(by, &weight);
    struct reconstruction_error_args args = {t[0], t[1], by, squared, loss, gradient};
    device->backend->reconstruction_error(device, &args);
    tensor_to_f32(gradient, dy);
    double error = *(const double *)loss->data;
    tensor_release(t[0]);
    tensor_release(t[1]);
    tensor_release(by);
    tensor_release(loss);
    tensor_release(gradient);
    return error;
}

static void test_errors(void)
{
    float x[5] = {0.1f, -0.4f, 0.9f, 0, -1}, y[5] = {0.3f, -0.5f, 0.2f, 0.5f, -1};
    for (int squared = 0; squared < 2; squared++) {
        float dy[5], moved[5], ignored[5];
        double error = error_of(x, y, squared, 3, dy), worst = 0;
        double expected = squared ? (0.04 + 0.01 + 0.49 + 0.25) / 5 : (0.2 + 0.1 + 0.7 + 0.5) / 5;
        tap_ok(fabs(error - expected) <= 1e-7, "mean error, %s", squared ? "L2" : "L1");
        for (int i = 0; i < 4; i++) {
            memcpy(moved, y, sizeof y);
            moved[i] += 1e-3f;
            double up = error_of(x, moved, squared, 0, ignored);
            worst = fmax(worst, fabs(3 * (up - error) / 1e-3 - dy[i]));
        }
        tap_ok(worst <= 2e-3, "its gradient against finite differences: %.2g", worst);
        y[1] = NAN;
        tap_ok(isnan(error_of(x, y, squared, 1, dy)) && isnan(dy[0]),
               "a NaN appears in error and gradient");
        y[1] = -0.5f;
    }
}

static void test_overfit(void)
{
    for (int l2 = 0; l2 < 2; l2++) {
        struct parameters *p = make_parameters(device);
        struct settings o = options(MOST, 1);
        o.loss.l2 = l2;
        o.step.clip_grad = 1;
        struct autoencoder_step *s = open_step(p, o);
        struct outcome first = update(s, 0, MOST, 1, 2e-3), last = first;
        for (int step = 1; step < 120; step++)
            last = update(s, step, MOST, 1, step < 80 ? 2e-3 : 5e-4);
        tap_ok(last.step.applied &&
                   last.losses.reconstruction < first.losses.reconstruction / (l2 ? 20 : 5),
               "overfits eight images, %s: %.4f from %.4f", l2 ? "L2" : "L1",
               last.losses.reconstruction, first.losses.reconstruction);
        struct autoencoder_batch all = batch_at(0, MOST);
        float(*back)[NUMBER] = xmalloc(sizeof *back * MOST);
        struct autoencoder_losses losses[MOST];
        autoencoder_step_reconstruct(s, ARRAY_EMA, &all, back[0], losses);
        double psnr = 0, mean = 0;
        for (int i = 0; i < MOST; i++) {
            psnr += image_psnr(images[i], back[i], SIDE, SIDE) / MOST;
            for (int k = 0; k < NUMBER; k++) {
                double d = (double)back[i][k] - images[i][k];
                mean += (l2 ? d * d : fabs(d)) / (MOST * NUMBER);
            }
        }
        double reported = 0;
        for (int i = 0; i < MOST; i++)
            reported += losses[i].reconstruction / MOST;
        tap_ok(psnr > 18, "reconstructions with averaged weights: PSNR %.1f dB", psnr);
        tap_ok(fabs(reported - mean) <= 1e-6 * mean, "reported losses match the reconstructions");
        free(back);
        autoencoder_step_close(s);
        parameters_free(p);
    }
}

static void test_accumulation(void)
{
    struct parameters *a = make_parameters(device), *b = make_parameters(device);
    struct autoencoder_step *whole = open_step(a, options(8, 1)),
                            *parts = open_step(b, options(2, 4));
    struct outcome ra = update(whole, 5, 8, 1, 1e-4), rb = update(parts, 5, 2, 4, 1e-4);
    tap_ok(fabs(ra.losses.total / rb.losses.total - 1) <= 1e-6 &&
               fabs(ra.losses.kl / rb.losses.kl - 1) <= 1e-6,
           "4 micro-batches of 2 have the loss of a batch of 8");
    double error = apart(a, b, ARRAY_GRADIENTS);
    tap_ok(error <= 5e-6, "they have its gradient: relative error %.2g", error);
    tap_ok(fabs(ra.losses.total - ra.losses.reconstruction - 1e-5 * ra.losses.kl) <= 1e-9,
           "the loss is the reconstruction error plus the weighted divergence");
    autoencoder_step_close(whole);
    autoencoder_step_close(parts);
    parameters_free(a);
    parameters_free(b);
}

static bool same_bytes(const struct parameters *a, const struct parameters *p, bool encoder)
{
    bool same = true;
    for (int i = 0; i < a->count; i++) {
        const struct parameter *t = &a->tensors[i], *o = parameters_find(p, t->name);
        size_t bytes = (size_t)t->count * sizeof(float);
        if (autoencoder_is_encoder(t->name) != encoder)
            continue;
        same &= memcmp(array(a, ARRAY_WEIGHTS, t), array(p, ARRAY_WEIGHTS, o), bytes) == 0 &&
                memcmp(array(a, ARRAY_EMA, t), array(p, ARRAY_EMA, o), bytes) == 0;
    }
    return same;
}

static void test_decoder_only(void)
{
    struct parameters *before = make_parameters(device), *whole = make_parameters(device);
    struct parameters *fixed = fixed_parameters(before);
    struct autoencoder_step *a = open_step(whole, options(4, 1)),
                            *b = open_step(fixed, options(4, 1));
    tap_ok(fixed->count == before->count && fixed->trained_count < before->trained_count &&
               !parameters_find(fixed, "encoder.conv_in.weight")->trained &&
               !parameters_find(fixed, "quant_conv.bias")->trained &&
               parameters_find(fixed, "post_quant_conv.bias")->trained &&
               parameters_find(fixed, "decoder.conv_out.weight")->trained,
           "the encoder and quant_conv are fixed");
    update(a, 0, 4, 1, 0);
    struct outcome r = update(b, 0, 4, 1, 0);
    double error = apart(whole, fixed, ARRAY_GRADIENTS);
    tap_ok(error == 0, "the decoder's gradient is as with a trained encoder: %.2g", error);
    tap_ok(r.losses.kl > 0 && r.losses.total == r.losses.reconstruction,
           "the divergence is reported but not part of the loss");
    for (int step = 1; step < 6; step++)
        update(b, step, 4, 1, 1e-3);
    tap_ok(same_bytes(fixed, before, true), "the encoder keeps its bits over five steps");
    tap_ok(!same_bytes(fixed, before, false), "the decoder changes");

    struct error e;
    struct run *run;
    struct training_state state;
    char *folder = path_join(test_folder(), "fixed"), *checkpoint = path_join(folder, "latest");
    training_state_init(&state);
    state.step = 6;
    strcpy(state.precision, "fp32");
    struct parameters *back = NULL;
    bool saved = run_open(&run, folder, &e) == 0 && checkpoint_save(run, fixed, &state, 0, &e) == 0;
    tap_ok(saved &&
               checkpoint_load_parameters(&back, &state, checkpoint, device, NULL, NULL, &e) == 0,
           "a checkpoint is saved and loaded%s%s", saved && back ? "" : ": ",
           saved && back ? "" : e.text);
    CHECK(back);
    tap_ok(back->trained_count == fixed->trained_count && back->updates == fixed->updates &&
               back->trained_elements == fixed->trained_elements && same_bytes(back, fixed, true) &&
               same_bytes(back, fixed, false) && apart(back, fixed, ARRAY_M) == 0 &&
               apart(back, fixed, ARRAY_V) == 0,
           "the loaded checkpoint has the same tensors, fixed ones included");
    run_close(run);
    training_state_release(&state);
    autoencoder_step_close(a);
    autoencoder_step_close(b);
    parameters_free(before);
    parameters_free(whole);
    parameters_free(fixed);
    parameters_free(back);
    free(folder);
    free(checkpoint);
}

static void test_not_finite(void)
{
    struct parameters *p = make_parameters(device), *before = make_parameters(device);
    struct autoencoder_step *s = open_step(p, options(2, 2));
    float kept = images[2][7];
    images[2][7] = NAN;
    struct outcome r = update(s, 0, 2, 2, 1e-3);
    tap_ok(!r.step.applied && r.step.suspect_count == 1 && r.step.suspects[0] == samples[2],
           "a non-finite image is named");
    tap_ok(p->updates == 0 && same_bytes(p, before, true) && same_bytes(p, before, false),
           "it changes no weight");
    images[2][7] = kept;
    r = update(s, 1, 2, 2, 1e-3);
    tap_ok(r.step.applied && p->updates == 1 && isfinite(r.step.gradient_norm),
           "the next step is applied");
    autoencoder_step_close(s);
    parameters_free(p);
    parameters_free(before);
}

static void test_refused(void)
{
    struct error e;
    struct named_weights names;
    struct autoencoder_step *s;
    struct settings o = options(1, 1);
    struct parameters *p = make_parameters(device), *half;
    parameters_names(&names, p, ARRAY_WEIGHTS);
    int kept = 0;
    for (int i = 0; i < names.count; i++)
        if (autoencoder_is_encoder(names.items[i].name))
            names.items[kept++] = names.items[i];
    names.count = kept;
    if (parameters_from_names(&half, &names, NULL, device, &e) != 0)
        die("%s", e.text);
    tap_ok(autoencoder_step_open(&s, half, collective_alone(), &o.step, &o.loss, &e) == -1 &&
               strstr(e.text, "decoder"),
           "refused: an autoencoder without an encoder: %s", e.text);
    names_release(&names);
    parameters_free(half);
    parameters_free(p);
}

static void test_memory(void)
{
    struct parameters *p = make_parameters(device);
    struct settings small = options(2, 1), large = options(8, 1);
    struct device exact = without_regions(device);
    int64_t one = autoencoder_step_memory(p, &small.step, &small.loss, &exact, 1, SIDE, SIDE);
    int64_t more = autoencoder_step_memory(p, &large.step, &large.loss, &exact, 1, SIDE, SIDE);
    struct autoencoder_step *s = open_step(p, large);
    size_t before = device_memory(device).in_use;
    update(s, 0, 8, 1, 1e-4);
    size_t peak = device_memory(device).peak;
    tap_ok(one > (int64_t)before && more > 2 * (one - (int64_t)before),
           "memory grows with the batch: %" PRId64 ", %" PRId64, one, more);
    tap_ok(fabs((double)more / (double)peak - 1) <= 0.2,
           "predicted memory is close to what is used: %" PRId64 ", %zu", more, peak);
    autoencoder_step_close(s);
    parameters_free(p);
}

/* SSIM as the paper defines it: whole windows, variances around their means. */
static double plain_ssim(const float *a, const float *b, int height, int width)
{
    double sum = 0;
    int places = 0;
    for (int y = 5; y < height - 5; y++)
        for (int x = 5; x < width - 5; x++) {
            double total = 0, m[2] = {0}, v[2] = {0}, covariance = 0;
            for (int pass = 0; pass < 2; pass++)
                for (int j = -5; j <= 5; j++)
                    for (int i = -5; i <= 5; i++) {
                        double w = exp(-(i * i + j * j) / (2 * 1.5 * 1.5));
                        size_t at = (size_t)((y + j) * width + x + i), p = (size_t)(height * width);
                        double l[2];
                        for (int k = 0; k < 2; k++) {
                            const float *q = k ? b : a;
                            l[k] = 0.299 * (q[at] + 1.0) / 2 + 0.587 * (q[p + at] + 1.0) / 2 +
                                   0.114 * (q[2 * p + at] + 1.0) / 2;
                        }
                        if (pass == 0) {
                            total += w;
                            m[0] += w * l[0];
                            m[1] += w * l[1];
                            continue;
                        }
                        for (int k = 0; k < 2; k++)
                            v[k] += w / total * (l[k] - m[k] / total) * (l[k] - m[k] / total);
                        covariance += w / total * (l[0] - m[0] / total) * (l[1] - m[1] / total);
                    }
            double ma = m[0] / total, mb = m[1] / total;
            sum += (2 * ma * mb + 1e-4) * (2 * covariance + 9e-4) /
                   ((ma * ma + mb * mb + 1e-4) * (v[0] + v[1] + 9e-4));
            places++;
        }
    return sum / places;
}

static void test_quality(void)
{
    float a[NUMBER], b[NUMBER];
    for (int i = 0; i < NUMBER; i++) {
        a[i] = 0.5f * images[0][i];
        b[i] = a[i] + 0.2f;
    }
    double psnr = image_psnr(a, b, SIDE, SIDE);
    tap_ok(fabs(psnr - 20) <= 1e-4, "a difference of a tenth of the range is 20 dB: %.6f", psnr);
    tap_ok(isinf(image_psnr(a, a, SIDE, SIDE)) && fabs(image_ssim(a, a, SIDE, SIDE) - 1) <= 1e-12,
           "equal images have the best scores");
    for (int i = 0; i < NUMBER; i++)
        b[i] = a[i] + 0.3f * images[1][i];
    double ssim = image_ssim(a, b, SIDE, SIDE), plain = plain_ssim(a, b, SIDE, SIDE);
    tap_ok(fabs(ssim - plain) <= 1e-9 && ssim < 0.999 && ssim > 0,
           "SSIM matches its definition: %.9f, %.9f", ssim, plain);
    float wide[3 * 12 * 20], other[3 * 12 * 20];
    rng_uniform(wide, 3 * 12 * 20, 1, RNG_SHAPES, 0, 0, 0);
    rng_uniform(other, 3 * 12 * 20, 1, RNG_SHAPES, 0, 1, 0);
    tap_ok(fabs(image_ssim(wide, other, 12, 20) - plain_ssim(wide, other, 12, 20)) <= 1e-9,
           "SSIM of images that are not square");
    for (int i = 0; i < NUMBER; i++)
        b[i] = a[i] > 0.4f ? 7 : a[i];
    for (int i = 0; i < NUMBER; i++)
        a[i] = a[i] > 0.4f ? 1 : a[i];
    tap_ok(isinf(image_psnr(a, b, SIDE, SIDE)),
           "PSNR compares clipped values, as they are written");
    b[3] = NAN;
    tap_ok(isnan(image_psnr(a, b, SIDE, SIDE)) && isnan(image_ssim(a, b, SIDE, SIDE)),
           "a NaN gives NaN scores");
}

int main(void)
{
    struct error e;
    message_init("autoencoder");
    message_set_verbosity(VERBOSITY_QUIET);
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    draw_images();
    test_memory();
    test_errors();
    test_overfit();
    test_accumulation();
    test_decoder_only();
    test_not_finite();
    test_refused();
    test_quality();
    tap_ok(device_memory(device).in_use == 0, "all tensors were released");
    device_close(device);
    return tap_done();
}
