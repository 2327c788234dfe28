/* The U-Net's training step: splits of an effective batch, determinism, resuming, non-finite values
 * and random draws. */
#include "common/train/unet_step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/trained.h"

#define SIDE   8
#define LATENT 4
#define EMBED  16
#define MOST   256 /* images of an update */

static struct device *device;
static struct architecture architecture;

/* Synthetic records: record i is a pure function of i. */
struct data {
    float moments[MOST][2 * LATENT * SIDE * SIDE], embeds[MOST][EMBED];
    uint64_t samples[MOST];
};
static struct data data;

static void load(int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t half = LATENT * SIDE * SIDE;
        uint64_t id = (uint64_t)(first + i);
        data.samples[i] = id;
        rng_normal(data.moments[i], (size_t)half, 99, RNG_POSTERIOR, 1, id, 0);
        for (int64_t j = 0; j < half; j++)
            data.moments[i][half + j] = -3;
        rng_normal(data.embeds[i], EMBED, 99, RNG_POSTERIOR, 2, id, 0);
    }
}

static struct unet_batch batch_at(int64_t at, int64_t n)
{
    return (struct unet_batch){.n = n,
                               .height = SIDE,
                               .width = SIDE,
                               .moments = data.moments[at],
                               .embeds = data.embeds[at],
                               .samples = data.samples + at};
}

struct settings {
    struct step_options step;
    struct unet_step_options unet;
};

static struct settings options(int64_t batch, int64_t accumulate)
{
    return (struct settings){
        .step = {.seed = 11, .batch = batch, .accumulate = accumulate, .adamw = ADAMW_DEFAULTS},
        .unet = {.uncond_prob = 0.2, .embed_noise = 0.3, .autoencoder_scale = 1.5},
    };
}

struct training {
    struct parameters *parameters;
    struct unet_step *step;
};

static struct training start_rank(const struct settings *o, struct collective *c, struct device *d)
{
    struct training t;
    struct error e;
    t.parameters = parameters_new(&architecture, NET_UNET, 3, d);
    if (unet_step_open(&t.step, t.parameters, c, &o->step, &o->unet, &e) != 0)
        die("%s", e.text);
    return t;
}

static struct training start(struct settings o)
{
    return start_rank(&o, collective_alone(), device);
}

static void stop(struct training *t)
{
    unet_step_close(t->step);
    parameters_free(t->parameters);
}

/* Update number `step` on records step*n .. step*n + n, n the effective batch. */
static struct step_result update(struct training *t, int64_t step, const struct settings *o)
{
    struct step_result r;
    int64_t n = o->step.batch * o->step.accumulate;
    load(step * n, n);
    for (int64_t k = 0; k < o->step.accumulate; k++) {
        struct unet_batch b = batch_at(k * o->step.batch, o->step.batch);
        unet_step_micro_batch(t->step, step, &b);
    }
    unet_step_update(t->step, 1e-3, 0.9, &r);
    return r;
}

static void accumulation(void)
{
    struct settings whole = options(8, 1), parts = options(2, 4);
    struct training a = start(whole), b = start(parts);
    struct step_result ra = update(&a, 5, &whole), rb = update(&b, 5, &parts);
    const struct unet_step_sample *sa = unet_step_samples(a.step), *sb = unet_step_samples(b.step);
    bool same = true;
    double loss = 0;
    for (int i = 0; same && i < 8; i++) {
        same &= sa[i].t == sb[i].t && sa[i].sample == sb[i].sample &&
                sa[i].dropped == sb[i].dropped &&
                fabsf(sa[i].loss - sb[i].loss) <= 1e-6f * sa[i].loss;
        loss += sa[i].loss / 8;
    }
    tap_ok(same, "4 micro-batches of 2 draw the same t and dropped samples as a batch of 8");
    tap_ok(fabs(ra.loss - loss) <= 1e-6 * loss && fabs(ra.loss - rb.loss) <= 1e-6 * loss,
           "the loss is the mean over all samples");
    tap_ok(trained_distance(a.parameters, b.parameters, ARRAY_GRADIENTS) <= 2e-6,
           "the same gradient: relative error %.2g",
           trained_distance(a.parameters, b.parameters, ARRAY_GRADIENTS));
    tap_ok(fabs(ra.gradient_norm / rb.gradient_norm - 1) <= 1e-6, "the same gradient norm");
    stop(&a);
    stop(&b);
}

static void determinism(void)
{
    struct settings o = options(4, 1);
    int threads = threads_count();
    struct training a = start(o), b = start(o);
    for (int i = 0; i < 10; i++)
        update(&a, i, &o);
    for (int i = 0; i < 10; i++)
        update(&b, i, &o);
    tap_ok(trained_same_bits(a.parameters, b.parameters, ARRAY_WEIGHTS) &&
               trained_same_bits(a.parameters, b.parameters, ARRAY_EMA) &&
               trained_same_bits(a.parameters, b.parameters, ARRAY_V),
           "ten steps twice give identical bits");
    stop(&b);
    threads_init(threads == 1 ? 2 : 1);
    b = start(o);
    for (int i = 0; i < 10; i++)
        update(&b, i, &o);
    threads_init(threads);
    double error = trained_distance(a.parameters, b.parameters, ARRAY_WEIGHTS);
    tap_ok(error <= 1e-5, "another number of threads: relative error %.2g after ten steps", error);
    stop(&a);
    stop(&b);
}

static void recomputation(void)
{
    struct settings o = options(4, 1);
    struct training a = start(o);
    o.step.recompute = true;
    struct training b = start(o);
    struct step_result ra = update(&a, 0, &o), rb = update(&b, 0, &o);
    double error = trained_distance(a.parameters, b.parameters, ARRAY_GRADIENTS);
    tap_ok(ra.loss == rb.loss && error <= 2e-6,
           "recomputed activations give the same gradient: %.2g", error);
    stop(&a);
    stop(&b);
}

static void resumed(void)
{
    struct settings o = options(4, 1);
    struct training a = start(o), b = start(o);
    for (int i = 0; i < 4; i++)
        update(&a, i, &o);
    for (int i = 0; i < 2; i++)
        update(&b, i, &o);
    struct training c = start(o);
    for (int which = 0; which < ARRAY_COUNT; which++) {
        int64_t n = which <= ARRAY_EMA ? b.parameters->elements : b.parameters->trained_elements;
        parameters_write(c.parameters, which, 0, n,
                         parameters_read(b.parameters, which, 0, n, NULL));
    }
    c.parameters->updates = b.parameters->updates;
    for (int i = 2; i < 4; i++)
        update(&c, i, &o);
    tap_ok(trained_same_bits(a.parameters, c.parameters, ARRAY_WEIGHTS) &&
               trained_same_bits(a.parameters, c.parameters, ARRAY_EMA) &&
               trained_same_bits(a.parameters, c.parameters, ARRAY_M) &&
               trained_same_bits(a.parameters, c.parameters, ARRAY_V),
           "2 steps, a copy and 2 more steps give the bits of 4 steps");
    stop(&a);
    stop(&b);
    stop(&c);
}

static void not_finite(void)
{
    struct settings o = options(4, 1);
    struct training t = start(o);
    update(&t, 0, &o);
    struct snapshot before;
    snapshot_take(&before, t.parameters);

    load(4, 4);
    data.moments[2][9] = NAN;
    struct unet_batch b = batch_at(0, 4);
    struct step_result r;
    unet_step_micro_batch(t.step, 1, &b);
    unet_step_update(t.step, 1e-3, 0.9, &r);
    tap_ok(!r.applied && snapshot_matches(&before, t.parameters) && t.parameters->updates == 1,
           "a NaN in a record changes no weight");
    tap_ok(r.suspect_count == 1 && r.suspects[0] == 6, "the record is named");

    load(4, 4);
    b = batch_at(0, 4);
    unet_step_micro_batch(t.step, 1, &b);
    float infinite = INFINITY;
    parameters_write(t.parameters, ARRAY_GRADIENTS, 1000, 1, &infinite);
    unet_step_update(t.step, 1e-3, 0.9, &r);
    bool all = r.suspect_count == 4;
    for (int i = 0; i < 4 && all; i++)
        all &= r.suspects[i] == unet_step_samples(t.step)[i].sample;
    tap_ok(!r.applied && snapshot_matches(&before, t.parameters) && all && isfinite(r.loss),
           "an infinite gradient changes no weight; any record may have caused it");
    r = update(&t, 1, &o);
    tap_ok(r.applied && t.parameters->updates == 2 && isfinite(r.loss), "the next step is applied");
    snapshot_release(&before);
    stop(&t);
}

static double norm(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static void first_update(void)
{
    struct settings o = options(4, 1);
    struct training plain = start(o);
    struct snapshot before;
    snapshot_take(&before, plain.parameters);
    const float *old = before.arrays[ARRAY_EMA];
    struct step_result r = update(&plain, 0, &o);
    int64_t n = plain.parameters->trained_elements;
    double g = norm(trained_values(plain.parameters, ARRAY_GRADIENTS), n);
    tap_ok(fabs(r.gradient_norm / g - 1) <= 1e-6, "the gradient norm is reported");
    tap_ok(fabs(norm(trained_values(plain.parameters, ARRAY_M), n) / (0.1 * g) - 1) <= 1e-5,
           "the first moment is a tenth of the gradient");
    const float *p = trained_values(plain.parameters, ARRAY_WEIGHTS),
                *ema = trained_values(plain.parameters, ARRAY_EMA);
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(0.9 * old[i] + 0.1 * p[i] - ema[i]));
    tap_ok(worst <= 1e-7, "EMA moves a tenth of the way");
    const struct parameter *fixed = parameters_find(plain.parameters, "timestep_embed.weight");
    struct parameters *fresh = parameters_new(&architecture, NET_UNET, 3, device);
    tap_ok(
        !memcmp(parameters_read(fresh, ARRAY_WEIGHTS, fixed->offset, fixed->count, NULL),
                parameters_read(plain.parameters, ARRAY_WEIGHTS, fixed->offset, fixed->count, NULL),
                (size_t)fixed->count * sizeof(float)),
        "Fourier weights do not change");
    parameters_free(fresh);

    o.step.clip_grad = r.gradient_norm / 8;
    struct training clipped = start(o);
    struct step_result rc = update(&clipped, 0, &o);
    tap_ok(fabs(rc.gradient_norm / r.gradient_norm - 1) <= 1e-9,
           "the norm is reported before clipping");
    double m = norm(trained_values(clipped.parameters, ARRAY_M), n);
    tap_ok(fabs(m / (0.1 * o.step.clip_grad) - 1) <= 1e-5, "the clipped gradient is used");
    stop(&clipped);
    o.step.clip_grad = r.gradient_norm * 2;
    clipped = start(o);
    update(&clipped, 0, &o);
    tap_ok(trained_same_bits(plain.parameters, clipped.parameters, ARRAY_M),
           "a smaller gradient is not clipped");
    stop(&clipped);
    stop(&plain);
    snapshot_release(&before);
}

static void draws(void)
{
    struct settings o = options(MOST, 1);
    struct training t = start(o);
    int dropped = 0, repeated = 0, intervals = 0;
    bool before[MOST] = {0};
    for (int step = 0; step < 4; step++) {
        bool seen[MOST] = {0};
        load(0, MOST); /* the same records at every step */
        struct unet_batch b = batch_at(0, MOST);
        struct step_result r;
        unet_step_micro_batch(t.step, step, &b);
        unet_step_update(t.step, 0, 1, &r);
        const struct unet_step_sample *samples = unet_step_samples(t.step);
        for (int i = 0; i < MOST; i++) {
            dropped += samples[i].dropped;
            repeated += step > 0 && samples[i].dropped && before[i];
            before[i] = samples[i].dropped;
            int at = (int)(samples[i].t * MOST);
            intervals += !seen[at];
            seen[at] = true;
        }
    }
    /* Binomial: 1024 draws at 0.2, four standard deviations; 768 at 0.04. */
    tap_ok(abs(dropped - 205) <= 51, "%d of 1024 embeddings are dropped", dropped);
    tap_ok(abs(repeated - 31) <= 22,
           "independently at each step (%d of 768 in two consecutive steps)", repeated);
    tap_ok(intervals == 4 * MOST, "each batch's times are spread evenly");
    stop(&t);
}

/* The step adds the same noise to embeddings as this test, which adds directions. */
static void embed_noise(void)
{
    struct settings with = options(6, 1), without = with;
    without.unet.embed_noise = 0;
    struct training noised = start(with), clean = start(without), by_hand = start(without);
    update(&noised, 7, &with);
    update(&clean, 7, &without);

    load(7 * 6, 6);
    for (int i = 0; i < 6; i++) {
        float z[EMBED], *x = data.embeds[i];
        rng_normal(z, EMBED, with.step.seed, RNG_EMBED_NOISE, 7, data.samples[i], 0);
        double length = norm(x, EMBED), noise = norm(z, EMBED);
        for (int j = 0; j < EMBED; j++)
            x[j] = (float)(x[j] / length + 0.3 * z[j] / noise);
        double sum = norm(x, EMBED);
        for (int j = 0; j < EMBED; j++)
            x[j] = (float)(x[j] * length / sum);
    }
    struct unet_batch b = batch_at(0, 6);
    struct step_result r;
    unet_step_micro_batch(by_hand.step, 7, &b);
    unet_step_update(by_hand.step, 1e-3, 0.9, &r);
    double same = trained_distance(by_hand.parameters, noised.parameters, ARRAY_M),
           other = trained_distance(clean.parameters, noised.parameters, ARRAY_M);
    tap_ok(same <= 1e-5 && other >= 1e-3,
           "embeddings get noise that depends on seed, step and sample (%.1e; without noise %.1e)",
           same, other);
    stop(&noised);
    stop(&clean);
    stop(&by_hand);
}

static void held_out(void)
{
    struct settings o = options(4, 1);
    struct training t = start(o);
    struct unet_step_sample first[6], again[6], average[6], parts[6];
    load(1000, 6);
    struct unet_batch b = batch_at(0, 6), head = batch_at(0, 2), tail = batch_at(2, 4);
    unet_step_evaluate(t.step, ARRAY_WEIGHTS, &b, 0, first);
    unet_step_evaluate(t.step, ARRAY_EMA, &b, 0, average);
    unet_step_evaluate(t.step, ARRAY_WEIGHTS, &head, 0, parts);
    unet_step_evaluate(t.step, ARRAY_WEIGHTS, &tail, 2, parts + 2);
    bool same = true, split = true, kept = true;
    for (int i = 0; i < 6; i++) {
        same &= first[i].loss == average[i].loss && first[i].t == average[i].t;
        split &= fabsf(first[i].loss - parts[i].loss) <= 1e-6f * first[i].loss &&
                 first[i].t == parts[i].t;
        kept &= !first[i].dropped && first[i].sample == (uint64_t)(1000 + i);
    }
    tap_ok(same, "held-out loss: EMA starts as the weights");
    tap_ok(split, "held-out loss: the same in any split");
    tap_ok(kept, "held-out loss: always conditional");
    double sum[2] = {0};
    for (int i = 0; i < 30; i++) {
        load(0, 4);
        struct unet_batch one = batch_at(0, 4);
        struct step_result r;
        unet_step_micro_batch(t.step, i, &one);
        unet_step_update(t.step, 1e-3, 0.9, &r);
    }
    load(0, 4);
    struct unet_batch known = batch_at(0, 4);
    unet_step_evaluate(t.step, ARRAY_WEIGHTS, &known, 0, again);
    struct training fresh = start(o);
    unet_step_evaluate(fresh.step, ARRAY_WEIGHTS, &known, 0, first);
    unet_step_evaluate(t.step, ARRAY_EMA, &known, 0, average);
    for (int i = 0; i < 4; i++) {
        sum[0] += first[i].loss;
        sum[1] += again[i].loss;
    }
    tap_ok(sum[1] < 0.7 * sum[0], "30 steps on four images: loss %.3f to %.3f", sum[0] / 4,
           sum[1] / 4);
    tap_ok(average[0].loss != again[0].loss, "averaged weights give another loss");
    stop(&fresh);
    stop(&t);
}

struct rank {
    struct collective *collective;
    struct training training;
    double loss;
    struct settings options;
    bool applied, suspect;
};

/* Gives the sum a NaN that no loss shows. */
static void sum_nan(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    const struct thread_ranks *t = c->state;
    *(float *)a->own = NAN;
    t->collectives[0].functions->sum_slices(c, d, a);
}

static void run_rank(void *arg)
{
    struct rank *r = arg;
    struct step_result result;
    for (int64_t k = 0; k < 2; k++) {
        struct unet_batch b = batch_at((k * 2 + r->collective->rank) * 2, 2);
        unet_step_micro_batch(r->training.step, 7, &b);
    }
    unet_step_update(r->training.step, 1e-3, 0.9, &result);
    r->loss = result.loss;
    r->applied = result.applied;
    r->suspect = result.suspect_count > 0 &&
                 result.suspects[0] == unet_step_samples(r->training.step)[0].sample;
}

static void two_ranks(bool broken)
{
    struct thread_ranks threads;
    struct rank ranks[2];
    load(56, 8);
    thread_ranks_open(&threads, 2);
    struct collective_functions functions = *threads.collectives[1].functions;
    functions.sum_slices = broken ? sum_nan : functions.sum_slices;
    threads.collectives[1].functions = &functions;
    for (int i = 0; i < 2; i++) {
        struct rank *r = &ranks[i];
        *r = (struct rank){.collective = &threads.collectives[i], .options = options(2, 2)};
        r->training = start_rank(&r->options, r->collective, threads.devices[i]);
    }
    thread_ranks_run(&threads, run_rank, (void *[]){&ranks[0], &ranks[1]});
    struct parameters *a = ranks[0].training.parameters, *b = ranks[1].training.parameters;
    if (broken) {
        tap_ok(!ranks[0].applied && !ranks[1].applied && ranks[0].suspect && a->updates == 0,
               "a non-finite gradient on one rank stops the update on both");
    } else {
        struct settings whole = options(8, 1);
        struct training one = start(whole);
        struct step_result r = update(&one, 7, &whole);
        tap_ok(trained_same_bits(a, b, ARRAY_WEIGHTS), "two ranks end with identical bits");
        tap_ok(fabs(ranks[0].loss - r.loss) <= 1e-6 * r.loss && ranks[0].loss == ranks[1].loss,
               "two ranks report the mean loss of both");
        double error = trained_distance(a, one.parameters, ARRAY_GRADIENTS);
        tap_ok(error <= 2e-6, "two ranks of 2 x 2 match a batch of 8: relative error %.2g", error);
        stop(&one);
    }
    for (int i = 0; i < 2; i++)
        stop(&ranks[i].training);
    thread_ranks_close(&threads);
}

static void memory(bool recompute)
{
    struct settings o = options(16, 2);
    o.step.recompute = recompute;
    struct device *d;
    struct error e;
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    struct training t = start_rank(&o, collective_alone(), d);
    update(&t, 0, &o);
    struct device exact = without_regions(d);
    double counted =
        (double)unet_step_memory(&architecture, &o.step, &o.unet, &exact, 1, SIDE, SIDE);
    double used = (double)device_memory(d).peak, taken = (double)device_memory(d).taken;
    double to_take = (double)unet_step_memory(&architecture, &o.step, &o.unet, d, 1, SIDE, SIDE);
    /* Regions are of 16 MB at least. */
    tap_ok(to_take >= 0.9 * taken && to_take <= 1.1 * taken + 17e6,
           "memory: %.2f MB taken from the system, %.2f MB predicted", taken / 1e6, to_take / 1e6);
    /* The pool's blocks may be up to an eighth too large. */
    tap_ok(counted >= 0.9 * used && counted <= 1.1 * used,
           "memory%s: %.2f MB used, %.2f MB predicted", recompute ? " with recomputing" : "",
           used / 1e6, counted / 1e6);
    struct settings single = o;
    single.step.accumulate = 1;
    double alone = (double)unet_step_memory(&architecture, &single.step, &single.unet, &exact, 1,
                                            SIDE, SIDE),
           two = (double)unet_step_memory(&architecture, &single.step, &single.unet, &exact, 2,
                                          SIDE, SIDE);
    /* One more array of gradients, but half of EMA, the sum of gradients and both moments. */
    double saved = 4.0 * (double)t.parameters->trained_elements;
    tap_ok(fabs(alone - two - saved) <= 0.15 * saved,
           "two ranks share EMA, gradients and moments: %.2f MB each, one %.2f MB", two / 1e6,
           alone / 1e6);
    stop(&t);
    device_close(d);
}

static void no_conversion(struct device *d, const struct convert_weights_args *a)
{
}

static void no_recording(struct device *d)
{
}

/* The published network on a GPU. */
static void memory_of_published(void)
{
    struct architecture published = {0};
    unet_architecture(&published, &unet_published);
    struct backend gpu = {.convert_weights = no_conversion, .record_begin = no_recording};
    struct device like = {.backend = &gpu, .compute = DTYPE_BF16};
    struct settings o = options(64, 1);
    double plain = (double)unet_step_memory(&published, &o.step, &o.unet, &like, 1, 32, 32);
    o.step.recompute = true;
    double less = (double)unet_step_memory(&published, &o.step, &o.unet, &like, 1, 32, 32);
    tap_ok(plain < 79e9 && less < plain,
           "the published U-Net at batch 64 in bf16 needs %.1f GB, with recomputing %.1f GB",
           plain / 1e9, less / 1e9);
    architecture_release(&published);
}

int main(void)
{
    struct error e;
    struct unet_config sizes = {.latent_channels = LATENT,
                                .embed_width = EMBED,
                                .base_channels = 16,
                                .cond_width = 64,
                                .multipliers = {4, 4, 4, 4},
                                .autoencoder_scale = 1};
    threads_init(0);
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    unet_architecture(&architecture, &sizes);
    accumulation();
    determinism();
    recomputation();
    resumed();
    not_finite();
    first_update();
    draws();
    embed_noise();
    held_out();
    two_ranks(false);
    two_ranks(true);
    memory(false);
    memory(true);
    memory_of_published();
    architecture_release(&architecture);
    tap_ok(device_memory(device).in_use == 0, "all tensors were released");
    device_close(device);
    return tap_done();
}
