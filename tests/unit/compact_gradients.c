/* Compact gradients of kernels and matrices against plain ones in F32, on the emulator: the same
 * bits, rounded to the type of activations. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/train/unet_step.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

#define SIDE   8
#define LATENT 4
#define EMBED  16
#define BATCH  2

struct training {
    struct parameters *parameters;
    struct unet_step *step;
};

static struct training start(const struct architecture *a, struct device *d, bool compact,
                             double clip)
{
    struct step_options o = {
        .seed = 11, .batch = BATCH, .accumulate = 1, .clip_grad = clip, .adamw = ADAMW_DEFAULTS};
    struct unet_step_options u = {.uncond_prob = 0.2, .autoencoder_scale = 1.5};
    struct training t = {.parameters = parameters_new(a, NET_UNET, 3, d)};
    struct error e;
    parameters_place(t.parameters, collective_alone(), NULL);
    if (!compact)
        parameters_split_gradients(t.parameters);
    if (unet_step_open(&t.step, t.parameters, collective_alone(), &o, &u, &e) != 0)
        die("%s", e.text);
    if (d->compute == DTYPE_F16) /* with the first one, gradients overflow */
        updater_set_loss_scale(unet_step_updater(t.step), (struct loss_scale){64, 0});
    return t;
}

static void stop(struct training *t)
{
    unet_step_close(t->step);
    parameters_free(t->parameters);
}

static double update(struct training *t, int64_t step)
{
    static float moments[BATCH * 2 * LATENT * SIDE * SIDE], embeds[BATCH * EMBED];
    uint64_t samples[BATCH] = {(uint64_t)(2 * step), (uint64_t)(2 * step + 1)};
    struct unet_batch b = {BATCH, SIDE, SIDE, moments, embeds, samples};
    struct step_result r;
    rng_normal(moments, sizeof moments / sizeof *moments, 99, RNG_POSTERIOR, 1, samples[0], 0);
    rng_normal(embeds, sizeof embeds / sizeof *embeds, 99, RNG_POSTERIOR, 2, samples[0], 0);
    unet_step_micro_batch(t->step, step, &b);
    unet_step_update(t->step, 1e-3, 0.9, &r);
    CHECK(r.applied);
    return r.gradient_norm;
}

static int compact_count(const struct parameters *p)
{
    int count = 0;
    for (int i = 0; i < p->count; i++)
        count += p->tensors[i].compact != NULL;
    return count;
}

/* The relative distance of an array's trained elements; 0 only if they have the same bits. */
static double apart(const struct training *a, const struct training *b, enum parameter_array which)
{
    int64_t count = a->parameters->trained_elements;
    size_t bytes = (size_t)count * sizeof(float);
    float *x = xmalloc(bytes), *y = xmalloc(bytes);
    parameters_read(a->parameters, which, 0, count, x);
    parameters_read(b->parameters, which, 0, count, y);
    for (int64_t i = 0; i < count; i++) { /* a plain gradient has no -0: it was added to 0 */
        x[i] += 0.0f;
        y[i] += 0.0f;
    }
    double distance = memcmp(x, y, bytes) == 0 ? 0 : relative_l2(x, y, (size_t)count) + 1e-30;
    free(x);
    free(y);
    return distance;
}

/* Of `count` elements, in place: as the compact gradients of these parameters hold them. */
static void round_compact(const struct parameters *p, float *values)
{
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        char *rounded = xmalloc((size_t)t->count * sizeof(float));
        if (t->compact) {
            dtype_from_f32(t->compact_type, rounded, values + t->offset, (size_t)t->count);
            dtype_to_f32(values + t->offset, t->compact_type, rounded, (size_t)t->count);
        }
        free(rounded);
    }
}

static float *read_array(const struct training *t, enum parameter_array which)
{
    int64_t count = t->parameters->trained_elements;
    float *to = xmalloc((size_t)count * sizeof *to);
    const float *from = parameters_read(t->parameters, which, 0, count, to);
    return from == to ? to : memcpy(to, from, (size_t)count * sizeof *to);
}

/* After one update: a compact gradient is the plain one, rounded; and what followed from the same
 * gradient is the same. */
static void compare_one(const struct training *compact, const struct training *plain,
                        const char *precision)
{
    int64_t count = plain->parameters->trained_elements, differing = 0, wrong = 0, changed = 0;
    float *of_compact[ARRAY_COUNT], *of_plain[ARRAY_COUNT];
    for (int which = 0; which < ARRAY_COUNT; which++) {
        of_compact[which] = read_array(compact, (enum parameter_array)which);
        of_plain[which] = read_array(plain, (enum parameter_array)which);
    }
    float *rounded = read_array(plain, ARRAY_GRADIENTS);
    round_compact(compact->parameters, rounded);
    for (int64_t i = 0; i < count; i++) {
        bool same = of_compact[ARRAY_GRADIENTS][i] == of_plain[ARRAY_GRADIENTS][i];
        wrong += of_compact[ARRAY_GRADIENTS][i] != rounded[i];
        differing += !same;
        for (int which = 0; which < ARRAY_COUNT; which++)
            changed += same && of_compact[which][i] != of_plain[which][i];
    }
    tap_ok(wrong == 0, "%s: %" PRId64 " gradients of %" PRId64 " are not the plain ones, rounded",
           precision, wrong, count);
    tap_ok(changed == 0, "%s: all but %" PRId64 " lead to the bits of plain ones", precision,
           differing);
    for (int which = 0; which < ARRAY_COUNT; which++) {
        free(of_compact[which]);
        free(of_plain[which]);
    }
    free(rounded);
}

static void compare(const struct architecture *a, const char *precision, int least, double error)
{
    struct device *d = NULL;
    struct error e;
    if (device_open(&d, "cuda", &e) != 0 || device_set_precision(d, precision, false, &e) != 0)
        die("%s", e.text);
    struct training compact = start(a, d, true, 0), plain = start(a, d, false, 0);
    int weights = compact_count(compact.parameters);
    tap_ok(weights >= least && compact_count(plain.parameters) == 0, "%s: %d gradients are compact",
           precision, weights);
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        double norm = update(&compact, i), other = update(&plain, i);
        worst = fmax(worst, fabs(norm / other - 1));
        if (i == 0)
            compare_one(&compact, &plain, precision);
    }
    double distance = apart(&compact, &plain, ARRAY_WEIGHTS);
    tap_ok(distance <= error, "%s: after three updates, weights are %.2g apart", precision,
           distance);
    tap_ok(worst <= error + 1e-6, "%s: and norms: %.2g", precision, worst);
    stop(&compact);
    stop(&plain);
    compact = start(a, d, true, 1e-3), plain = start(a, d, false, 1e-3);
    update(&compact, 0);
    update(&plain, 0);
    double moments = apart(&compact, &plain, ARRAY_M);
    tap_ok(moments <= error + 1e-6, "%s: clipped, moments are %.2g apart", precision, moments);
    stop(&compact);
    stop(&plain);
    device_close(d);
}

int main(void)
{
    struct architecture a = {0};
    struct unet_config sizes = {.latent_channels = LATENT,
                                .embed_width = EMBED,
                                .base_channels = 16,
                                .cond_width = 64,
                                .multipliers = {4, 4, 4, 4},
                                .autoencoder_scale = 1.5};
    threads_init(0);
    emulated_cuda();
    unet_architecture(&a, &sizes);
    compare(&a, "fp32", 60, 0);
    compare(&a, "bf16", 180, 1e-3);
    compare(&a, "fp16", 180, 1e-3);
    architecture_release(&a);
    return tap_done();
}
