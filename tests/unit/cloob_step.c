/* CLOOB's training step: splits of an effective batch, weight decay, and non-finite values. */
#include "common/train/cloob_step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/nets/kl.h"
#include "tests/support/tap.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/trained.h"

#define SIDE    16
#define CONTEXT 8
#define WORDS   600 /* rows of the vocabulary */
#define EMBED   24
#define MOST    16 /* pairs of an update */

static struct device *device;
static struct architecture architecture;

/* Pair i is a pure function of i: an image of uniform noise, and tokens. */
struct data {
    float images[MOST][3 * SIDE * SIDE];
    int32_t tokens[MOST][CONTEXT];
    uint64_t samples[MOST];
};
static struct data data;

static void load(int64_t first)
{
    for (int64_t i = 0; i < MOST; i++) {
        uint64_t id = (uint64_t)(first + i);
        float words[4];
        data.samples[i] = id;
        rng_uniform(data.images[i], 3 * SIDE * SIDE, 99, RNG_SHAPES, 1, id, 0);
        rng_uniform(words, 4, 99, RNG_SHAPES, 2, id, 0);
        memset(data.tokens[i], 0, sizeof data.tokens[i]);
        data.tokens[i][0] = WORDS - 2;
        for (int j = 0; j < 4; j++)
            data.tokens[i][j + 1] = (int32_t)(words[j] * (WORDS - 2));
        data.tokens[i][5] = WORDS - 1;
    }
}

static struct cloob_batch batch_at(int64_t at, int64_t n)
{
    return (struct cloob_batch){
        .n = n, .images = data.images[at], .tokens = data.tokens[at], .samples = data.samples + at};
}

struct settings {
    struct step_options step;
    struct cloob_step_options loss;
};

static struct settings options(int64_t batch, int64_t accumulate)
{
    return (struct settings){
        .step = {.batch = batch, .accumulate = accumulate, .adamw = {0.9, 0.98, 1e-6, 0.1}},
        .loss = {.inv_tau = CLOOB_INV_TAU, .scale_hopfield = CLOOB_SCALE_HOPFIELD},
    };
}

struct training {
    struct parameters *parameters;
    struct cloob_step *step;
};

static struct training start_rank(const struct settings *o, struct collective *c, struct device *d)
{
    struct training t;
    struct error e;
    t.parameters = parameters_new(&architecture, NET_CLOOB, 3, d);
    if (cloob_step_open(&t.step, t.parameters, c, &o->step, &o->loss, &e) != 0)
        die("%s", e.text);
    return t;
}

static struct training start(struct settings o)
{
    return start_rank(&o, collective_alone(), device);
}

static void stop(struct training *t)
{
    cloob_step_close(t->step);
    parameters_free(t->parameters);
}

static struct step_result update(struct training *t, const struct settings *o, double learning_rate)
{
    struct step_result r;
    for (int64_t k = 0; k < o->step.accumulate; k++) {
        struct cloob_batch b = batch_at(k * o->step.batch, o->step.batch);
        cloob_step_micro_batch(t->step, &b);
    }
    cloob_step_update(t->step, learning_rate, 0.9, &r);
    return r;
}

static void accumulation(void)
{
    load(0);
    struct settings whole = options(12, 1);
    struct training a = start(whole);
    struct step_result ra = update(&a, &whole, 1e-3);
    tap_ok(ra.applied && ra.gradient_norm > 1e-3 && fabs(cloob_step_cosine(a.step)) <= 1,
           "a step is applied");
    static const int64_t parts[][2] = {{6, 2}, {4, 3}, {1, 12}};
    for (int i = 0; i < 3; i++) {
        struct settings split = options(parts[i][0], parts[i][1]);
        struct training b = start(split);
        for (int step = 0; step < 2;
             step++) { /* the second must not add to the first's gradients */
            struct step_result rb = update(&b, &split, 0);
            double error = trained_distance(a.parameters, b.parameters, ARRAY_GRADIENTS);
            tap_ok(fabs(ra.loss - rb.loss) <= 1e-6 * ra.loss &&
                       fabs(cloob_step_cosine(a.step) - cloob_step_cosine(b.step)) <= 1e-6 &&
                       error <= 1e-5,
                   "%" PRId64 " micro-batches of %" PRId64 ": same loss, gradient within %.2g",
                   parts[i][1], parts[i][0], error);
        }
        stop(&b);
    }
    stop(&a);
}

struct rank {
    struct collective *collective;
    struct training training;
    struct settings options;
    struct step_result result;
};

static void run_rank(void *arg)
{
    struct rank *r = arg;
    for (int64_t k = 0; k < 2; k++) {
        struct cloob_batch b = batch_at((k * 2 + r->collective->rank) * 3, 3);
        cloob_step_micro_batch(r->training.step, &b);
    }
    cloob_step_update(r->training.step, 1e-3, 0.9, &r->result);
}

static void two_ranks(bool broken)
{
    struct thread_ranks threads;
    struct rank ranks[2];
    load(0);
    if (broken)
        data.images[4][7] = NAN; /* of rank 1 */
    thread_ranks_open(&threads, 2);
    for (int i = 0; i < 2; i++) {
        struct rank *r = &ranks[i];
        *r = (struct rank){.collective = &threads.collectives[i], .options = options(3, 2)};
        r->training = start_rank(&r->options, r->collective, threads.devices[i]);
    }
    thread_ranks_run(&threads, run_rank, (void *[]){&ranks[0], &ranks[1]});
    struct parameters *a = ranks[0].training.parameters, *b = ranks[1].training.parameters;
    const struct step_result *ra = &ranks[0].result, *rb = &ranks[1].result;
    if (broken) {
        tap_ok(!ra->applied && !rb->applied && a->updates == 0 && b->updates == 0,
               "a non-finite image on one rank stops the update on both");
        tap_ok(ra->suspect_count == 0 && rb->suspect_count == 1 && rb->suspects[0] == 4,
               "its rank names it");
    } else {
        struct settings whole = options(12, 1);
        struct training one = start(whole);
        struct step_result r = update(&one, &whole, 1e-3);
        tap_ok(trained_same_bits(a, b, ARRAY_WEIGHTS) && ra->loss == rb->loss,
               "two ranks end with identical bits");
        double error = trained_distance(a, one.parameters, ARRAY_GRADIENTS);
        tap_ok(fabs(ra->loss - r.loss) <= 1e-6 * r.loss && error <= 1e-5,
               "two ranks of 2 x 3 match a batch of 12: relative error %.2g", error);
        stop(&one);
    }
    for (int i = 0; i < 2; i++)
        stop(&ranks[i].training);
    thread_ranks_close(&threads);
}

static const float *tensor_of(const struct parameters *p, enum parameter_array which,
                              const char *name)
{
    const struct parameter *t = parameters_find(p, name);
    return parameters_read(p, which, t->offset, t->count, NULL);
}

/* Relative L2 distance of a whole tower. */
static double tower_distance(const struct parameters *a, const struct parameters *b,
                             enum parameter_array which, bool image)
{
    double difference = 0, sum = 0;
    for (int i = 0; i < a->count; i++) {
        const struct parameter *t = &a->tensors[i];
        if (cloob_is_image_tower(t->name) != image)
            continue;
        const float *x = tensor_of(a, which, t->name), *y = tensor_of(b, which, t->name);
        for (int64_t j = 0; j < t->count; j++) {
            difference += pow((double)x[j] - y[j], 2);
            sum += (double)y[j] * y[j];
        }
    }
    return sqrt(difference / sum);
}

static struct training start_text_only(struct settings o)
{
    struct parameters *whole = parameters_new(&architecture, NET_CLOOB, 3, device);
    struct named_weights names;
    struct training t;
    struct error e;
    parameters_names(&names, whole, ARRAY_WEIGHTS);
    if (parameters_from_names(&t.parameters, &names, cloob_is_image_tower, device, &e) != 0 ||
        cloob_step_open(&t.step, t.parameters, collective_alone(), &o.step, &o.loss, &e) != 0)
        die("%s", e.text);
    names_release(&names);
    parameters_free(whole);
    return t;
}

static void text_only(void)
{
    load(0);
    struct settings whole = options(12, 1);
    struct training a = start(whole);
    struct parameters *before = parameters_new(&architecture, NET_CLOOB, 3, device);
    struct step_result ra = update(&a, &whole, 0);
    static const int64_t parts[][2] = {{12, 1}, {4, 3}};
    for (int i = 0; i < 2; i++) {
        struct settings split = options(parts[i][0], parts[i][1]);
        struct training b = start_text_only(split);
        struct step_result rb = update(&b, &split, 0);
        double error = tower_distance(b.parameters, a.parameters, ARRAY_GRADIENTS, false);
        tap_ok(fabs(ra.loss - rb.loss) <= 1e-6 * ra.loss && error <= (i ? 1e-5 : 0),
               "text tower only, %" PRId64
               " micro-batches: the gradient as with a trained image tower: %.2g",
               parts[i][1], error);
        for (int step = 0; step < 3; step++)
            update(&b, &split, 1e-3);
        tap_ok(tower_distance(before, b.parameters, ARRAY_WEIGHTS, true) == 0 &&
                   tower_distance(before, b.parameters, ARRAY_EMA, true) == 0,
               "the image tower keeps its bits");
        tap_ok(tower_distance(before, b.parameters, ARRAY_WEIGHTS, false) > 1e-3,
               "the text tower changes");
        struct architecture fixed = parameters_architecture(b.parameters);
        struct device exact = without_regions(device);
        tap_ok(cloob_step_memory(&fixed, &split.step, &split.loss, &exact, 1, 0) <
                   cloob_step_memory(&architecture, &split.step, &split.loss, &exact, 1, 0) * 3 / 4,
               "training needs less memory");
        architecture_release(&fixed);
        stop(&b);
    }
    parameters_free(before);
    stop(&a);
}

/* Whether weight decay applies, as in the reference: to linear layers, not to the patches'
 * convolution.
 */
static bool decays(const char *name)
{
    static const char *const modules[] = {
        ".attn.query.weight",  ".attn.key.weight",    ".attn.value.weight",  ".attn.out.weight",
        ".ff.linear_0.weight", ".ff.linear_1.weight", "_encoder.proj.weight"};
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        if (strstr(name, modules[i]))
            return true;
    return false;
}

static void decay(void)
{
    load(0);
    struct settings o = options(8, 1), without = o;
    o.step.adamw.weight_decay = 0.5;
    without.step.adamw.weight_decay = 0;
    struct training a = start(o), b = start(without);
    struct snapshot before;
    snapshot_take(&before, a.parameters);
    update(&a, &o, 1e-2);
    update(&b, &without, 1e-2);
    const float *x = trained_values(a.parameters, ARRAY_WEIGHTS),
                *y = trained_values(b.parameters, ARRAY_WEIGHTS);
    int wrong = 0, matrices = 0;
    for (int i = 0; i < a.parameters->trained_count; i++) {
        const struct parameter *t = &a.parameters->tensors[i];
        double shrink = decays(t->name) ? 0.5 * 1e-2 : 0, worst = 0;
        matrices += shrink > 0;
        for (int64_t j = t->offset; j < t->offset + t->count; j++)
            worst = fmax(worst, fabs(y[j] - shrink * before.arrays[ARRAY_WEIGHTS][j] - x[j]));
        wrong += !(worst <= 1e-6);
    }
    tap_ok(matrices == 2 * (2 * 6 + 1) && wrong == 0,
           "weight decay shrinks %d matrices and nothing else", matrices);
    tap_ok(trained_same_bits(a.parameters, b.parameters, ARRAY_M) &&
               trained_same_bits(a.parameters, b.parameters, ARRAY_V),
           "weight decay changes no moments");
    stop(&a);

    o = without;
    struct step_result r;
    struct training plain = start(o);
    r = update(&plain, &o, 1e-3);
    o.step.clip_grad = r.gradient_norm / 8;
    struct training clipped = start(o);
    struct step_result rc = update(&clipped, &o, 1e-3);
    int64_t n = plain.parameters->trained_elements;
    double ratio = 0, all = 0;
    const float *m = trained_values(plain.parameters, ARRAY_M),
                *mc = trained_values(clipped.parameters, ARRAY_M);
    for (int64_t i = 0; i < n; i++) {
        ratio += (double)mc[i] * mc[i];
        all += (double)m[i] * m[i];
    }
    tap_ok(fabs(rc.gradient_norm / r.gradient_norm - 1) <= 1e-9 &&
               fabs(sqrt(ratio / all) * 8 - 1) <= 1e-4,
           "a single norm clips decayed and other weights");
    stop(&plain);
    stop(&clipped);
    stop(&b);
    snapshot_release(&before);
}

static void not_finite(void)
{
    struct settings o = options(4, 2);
    struct training t = start(o);
    load(0);
    update(&t, &o, 1e-3);
    struct snapshot before;
    snapshot_take(&before, t.parameters);
    load(100);
    data.images[2][9] = NAN;
    struct step_result r = update(&t, &o, 1e-3);
    tap_ok(!r.applied && snapshot_matches(&before, t.parameters) && t.parameters->updates == 1,
           "a NaN in an image changes no weight");
    tap_ok(r.suspect_count == 1 && r.suspects[0] == 102, "the pair is named");
    load(100);
    for (int k = 0; k < 2; k++) {
        struct cloob_batch b = batch_at(k * 4, 4);
        cloob_step_micro_batch(t.step, &b);
    }
    cloob_step_gradients(t.step);
    float infinite = INFINITY;
    parameters_write(t.parameters, ARRAY_GRADIENTS, 1000, 1, &infinite);
    cloob_step_update(t.step, 1e-3, 0.9, &r);
    tap_ok(!r.applied && snapshot_matches(&before, t.parameters) && r.suspect_count == 8 &&
               r.suspects[7] == 107,
           "an infinite gradient changes no weight; any pair may have caused it");
    r = update(&t, &o, 1e-3);
    tap_ok(r.applied && t.parameters->updates == 2 && r.suspect_count == 0,
           "the next step is applied");
    snapshot_release(&before);
    stop(&t);
}

static void scores(void)
{
    struct training t = start(options(4, 1));
    float x[4][EMBED] = {{0}}, y[4][EMBED] = {{0}};
    for (int i = 0; i < 4; i++)
        x[i][i] = y[i][i] = 1;
    struct cloob_scores s = cloob_step_score(t.step, x[0], y[0], 4);
    tap_ok(s.image_to_text == 1 && s.text_to_image == 1 && fabs(s.cosine - 1) < 1e-6,
           "identical embeddings retrieve each other");
    memcpy(y[3], y[2], sizeof y[3]); /* text 3 equals text 2: no text is nearest to image 3 */
    s = cloob_step_score(t.step, x[0], y[0], 4);
    tap_ok(s.image_to_text == 0.5 && s.text_to_image == 0.75 && fabs(s.cosine - 0.75) < 1e-6,
           "no image retrieves either of two identical texts: %.2f and %.2f, cosine %.2f",
           s.image_to_text, s.text_to_image, s.cosine);
    x[0][0] = NAN;
    s = cloob_step_score(t.step, x[0], y[0], 4);
    tap_ok(s.image_to_text < 0.5 && isnan(s.cosine), "a NaN is not retrieved");
    stop(&t);
}

static void learning(void)
{
    struct settings o = options(MOST, 1);
    struct training t = start(o);
    load(0);
    struct cloob_batch all = batch_at(0, MOST);
    static float x[MOST * EMBED], y[MOST * EMBED];
    cloob_step_embed(t.step, ARRAY_WEIGHTS, &all, x, y);
    struct cloob_scores before = cloob_step_score(t.step, x, y, MOST);
    for (int i = 0; i < 150; i++)
        update(&t, &o, 3e-4);
    cloob_step_embed(t.step, ARRAY_WEIGHTS, &all, x, y);
    struct cloob_scores after = cloob_step_score(t.step, x, y, MOST);
    tap_ok(before.image_to_text < 0.5 && before.text_to_image < 0.5,
           "untrained towers retrieve few pairs");
    tap_ok(after.image_to_text == 1 && after.text_to_image == 1 && after.loss < 0,
           "overfits 16 pairs: loss %.3f to %.3f, cosine %.3f to %.3f", before.loss, after.loss,
           before.cosine, after.cosine);
    static float ex[MOST * EMBED], ey[MOST * EMBED], again[MOST * EMBED];
    cloob_step_embed(t.step, ARRAY_EMA, &all, ex, ey);
    tap_ok(memcmp(x, ex, sizeof x) && relative_l2(x, ex, MOST * EMBED) < 0.5,
           "averaged weights give other embeddings");
    struct cloob_batch tail = batch_at(MOST - 5, 5);
    cloob_step_embed(t.step, ARRAY_WEIGHTS, &tail, again, ey);
    tap_ok(relative_l2(x + (MOST - 5) * EMBED, again, 5 * EMBED) <= 1e-5,
           "embeddings do not depend on the rest of a batch");
    stop(&t);
}

static void memory(void)
{
    struct settings o = options(8, 2);
    struct device *d;
    struct error e;
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    struct training t = start_rank(&o, collective_alone(), d);
    load(0);
    update(&t, &o, 1e-3);
    struct device exact = without_regions(d);
    double counted = (double)cloob_step_memory(&architecture, &o.step, &o.loss, &exact, 1, 0);
    double used = (double)device_memory(d).peak, taken = (double)device_memory(d).taken;
    double to_take = (double)cloob_step_memory(&architecture, &o.step, &o.loss, d, 1, 0);
    /* Regions are of 16 MB at least. */
    tap_ok(to_take >= 0.9 * taken && to_take <= 1.1 * taken + 17e6,
           "memory: %.2f MB taken from the system, %.2f MB predicted", taken / 1e6, to_take / 1e6);
    /* The pool's blocks may be up to an eighth too large. */
    tap_ok(counted >= 0.9 * used && counted <= 1.1 * used,
           "memory: %.2f MB used, %.2f MB predicted", used / 1e6, counted / 1e6);
    struct settings large = options(128, 1), small = options(8, 16);
    tap_ok(cloob_step_memory(&architecture, &small.step, &small.loss, &exact, 1, 0) <
               cloob_step_memory(&architecture, &large.step, &large.loss, &exact, 1, 0) / 3,
           "an effective batch of 128 needs less in micro-batches");
    stop(&t);
    device_close(d);
}

static void refused(void)
{
    struct kl_config sizes = {
        .base_channels = 32, .multipliers = {1}, .levels = 1, .blocks = 1, .latent_channels = 4};
    struct architecture other = {0};
    kl_architecture(&other, &sizes);
    struct parameters *p = parameters_new(&other, NET_KL, 1, device);
    struct settings o = options(4, 1);
    struct cloob_step *s;
    struct error e;
    tap_ok(cloob_step_open(&s, p, collective_alone(), &o.step, &o.loss, &e) < 0,
           "not an autoencoder: %s", e.text);
    parameters_free(p);
    architecture_release(&other);
}

int main(void)
{
    struct error e;
    struct cloob_config sizes = {.embed_width = EMBED,
                                 .image_size = SIDE,
                                 .patch_size = 4,
                                 .image_width = 64,
                                 .image_layers = 2,
                                 .context = CONTEXT,
                                 .text_width = 64,
                                 .text_layers = 2,
                                 .vocabulary = WORDS};
    threads_init(0);
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    cloob_architecture(&architecture, &sizes);
    accumulation();
    two_ranks(false);
    two_ranks(true);
    text_only();
    decay();
    not_finite();
    scores();
    learning();
    memory();
    refused();
    architecture_release(&architecture);
    tap_ok(device_memory(device).in_use == 0, "all memory was released");
    device_close(device);
    return tap_done();
}
