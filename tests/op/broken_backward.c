#include "tests/op/broken.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"

/* Backward and training kernels with one mistake each, compared with ref or, if ref itself is the
 * broken one, with finite differences of its forward pass. */

static void clear(struct tensor *t)
{
    memset(t->data, 0, (size_t)tensor_count(t) * sizeof(float));
}

static void conv2d_backward_forgets_to_add(struct device *d, const struct conv2d_backward_args *a)
{
    clear(a->dweight);
    ref_conv2d_backward(d, a);
}

/* The last tap of every filter counts as zero. */
static void conv2d_backward_drops_a_tap(struct device *d, const struct conv2d_backward_args *a)
{
    struct tensor weight = *a->forward.weight;
    int64_t window = weight.shape[2] * weight.shape[3];
    float *taps = xmalloc((size_t)tensor_count(&weight) * sizeof(float));
    memcpy(taps, weight.data, (size_t)tensor_count(&weight) * sizeof(float));
    for (int64_t i = window - 1; i < tensor_count(&weight); i += window)
        taps[i] = 0;
    weight.data = taps;
    struct conv2d_backward_args wrong = *a;
    wrong.forward.weight = &weight;
    ref_conv2d_backward(d, &wrong);
    free(taps);
}

static void conv2d_backward_shifted(struct device *d, const struct conv2d_backward_args *a)
{
    struct conv2d_backward_args wrong = *a;
    wrong.forward.pad_begin--;
    wrong.dx = NULL;
    ref_conv2d_backward(d, &wrong);
    ref_conv2d_backward(d, &(struct conv2d_backward_args){a->forward, a->dy, a->dx, NULL, NULL,
                                                          false, false, false});
}

static void conv2d_backward_one_percent_off(struct device *d, const struct conv2d_backward_args *a)
{
    int64_t n = tensor_count(a->dweight);
    float *dweight = a->dweight->data, *before = xmalloc((size_t)n * sizeof(float));
    memcpy(before, dweight, (size_t)n * sizeof(float));
    ref_conv2d_backward(d, a);
    for (int64_t i = 0; i < n; i++)
        dweight[i] += 0.01f * (dweight[i] - before[i]);
    free(before);
}

static void conv2d_backward_depends_on_threads(struct device *d,
                                               const struct conv2d_backward_args *a)
{
    ref_conv2d_backward(d, a);
    float *dbias = a->dbias->data;
    if (threads_count() == 1)
        dbias[0] = nextafterf(dbias[0], 2);
}

static void conv2d_backward_writes_past(struct device *d, const struct conv2d_backward_args *a)
{
    ref_conv2d_backward(d, a);
    ((volatile float *)a->dweight->data)[tensor_count(a->dweight)] = 0;
}

static void linear_backward_ignores_relu(struct device *d, const struct linear_backward_args *a)
{
    struct linear_backward_args wrong = *a;
    wrong.forward.act = ACTIVATION_NONE;
    ref_linear_backward(d, &wrong);
}

static void linear_backward_unwritten(struct device *d, const struct linear_backward_args *a)
{
    float *last = (float *)a->dx->data + tensor_count(a->dx) - 1, kept = *last;
    ref_linear_backward(d, a);
    *last = kept;
}

static void group_norm_backward_wrong_eps(struct device *d,
                                          const struct group_norm_backward_args *a)
{
    struct group_norm_backward_args wrong = *a;
    wrong.forward.eps = 1e-5f;
    ref_group_norm_backward(d, &wrong);
}

/* Scale and shift are swapped. */
static void group_norm_backward_swaps(struct device *d, const struct group_norm_backward_args *a)
{
    ref_group_norm_backward(d, a);
    int64_t c = tensor_last(a->dy), n = a->dy->shape[0];
    for (int64_t i = 0; i < n * 2 * c; i++) {
        float *scale = (float *)a->dmodulation->data + i, kept = *scale;
        if (i / c % 2)
            continue;
        *scale = scale[c];
        scale[c] = kept;
    }
}

/* Treats mean and deviation as independent of x. */
static void layer_norm_backward_too_simple(struct device *d,
                                           const struct layer_norm_backward_args *a)
{
    ref_layer_norm_backward(d, a);
    int64_t c = tensor_last(a->dy);
    const float *x = a->forward.x->data, *gamma = a->forward.gamma->data, *dy = a->dy->data;
    for (int64_t row = 0; row < tensor_rows(a->dy); row++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < c; i++)
            mean += x[row * c + i] / (double)c;
        for (int64_t i = 0; i < c; i++)
            variance += (x[row * c + i] - mean) * (x[row * c + i] - mean) / (double)c;
        for (int64_t i = 0; i < c; i++)
            ((float *)a->dx->data)[row * c + i] =
                (float)(dy[row * c + i] * gamma[i] / sqrt(variance + a->forward.eps));
    }
}

static void attention_backward_ignores_uniform(struct device *d,
                                               const struct attention_backward_args *a)
{
    struct attention_backward_args wrong = *a;
    wrong.forward.uniform = NULL;
    ref_attention_backward(d, &wrong);
}

/* A repeated token overwrites the earlier sum. */
static void embedding_backward_replaces(struct device *d, const struct embedding_backward_args *a)
{
    const int32_t *tokens = a->forward.tokens->data;
    int64_t c = tensor_last(a->dtable);
    for (int64_t i = 0; i < tensor_count(a->forward.tokens); i++)
        memcpy((float *)a->dtable->data + tokens[i] * c, (float *)a->dy->data + i * c,
               (size_t)c * sizeof(float));
}

static void adamw_without_correction(struct device *d, const struct adamw_args *a)
{
    struct adamw_args wrong = *a;
    wrong.step = 100000;
    ref_adamw(d, &wrong);
}

static void adamw_averages_before(struct device *d, const struct adamw_args *a)
{
    struct adamw_args apart = *a;
    float keep = (float)a->ema_decay, fresh = (float)(1 - a->ema_decay);
    for (int64_t i = 0; i < a->count; i++)
        a->ema[i] = keep * a->ema[i] + fresh * a->parameter[i];
    apart.ema = NULL;
    ref_adamw(d, &apart);
}

static void adamw_forgets_a_step(struct device *d, const struct adamw_args *a)
{
    struct adamw_args wrong = *a;
    wrong.ema_is_behind = false;
    ref_adamw(d, &wrong);
}

static void adamw_scales_a_given_step(struct device *d, const struct adamw_args *a)
{
    struct adamw_args wrong = *a;
    wrong.learning_rate *= a->gradient_scale;
    ref_adamw(d, &wrong);
}

static void moving_average_swaps(struct device *d, const struct moving_average_args *a)
{
    struct moving_average_args wrong = *a;
    wrong.decay = 1 - a->decay;
    ref_moving_average(d, &wrong);
}

/* The same mistake on both sides, which only finite differences reveal. */
#define EXPECT_DIFFERENCES(c, op, kernel, parameters)                                              \
    do {                                                                                           \
        struct broken_check b_;                                                                    \
        broken_check_init(&b_, c);                                                                 \
        b_.backend.op = kernel;                                                                    \
        b_.check.device[REF] = b_.device;                                                          \
        b_.check.ref_tape = &b_.tape;                                                              \
        expect_caught(&b_, &test_##op, #kernel " as ref", parameters, "finite differences give",   \
                      NULL);                                                                       \
        broken_check_release(&b_);                                                                 \
    } while (0)

void check_broken_backward_kernels(const struct check *c)
{
    const char *conv =
        "n=2 h=5 w=6 ci=4 co=3 k=3 stride=1 pad_begin=1 pad_end=1 bias=1 fill=0 wanted=7";
    const char *relu = "n=3 s=2 in=9 out=12 dims=2 wdims=2 bias=1 act=1 fill=0 wanted=7";
    const char *small = "n=1 h=4 w=4 c=64 groups=32 eps_exponent=6 affine=1 modulation=0 act=2 "
                        "fill=3 wanted=15";
    const char *modulated = "n=2 h=3 w=3 c=6 groups=1 eps_exponent=5 affine=0 modulation=1 act=1 "
                            "fill=0 wanted=15";
    const char *rows = "n=2 s=3 c=7 eps_exponent=5 fill=0 wanted=7";
    const char *uniform = "n=2 s=6 heads=2 d=8 packed=0 uniform=1 fill=0";
    const char *tokens = "n=2 s=9 d=5 rows=3";
    const char *step = "count=50 step=2 rate_exponent=1 eps_exponent=8 decay=1 scale=100 ema=2 "
                       "fill=0 before=0 given=0";
    const char *behind = "count=50 step=2 rate_exponent=1 eps_exponent=8 decay=1 scale=100 ema=2 "
                         "fill=0 before=1 given=0";
    const char *given = "count=50 step=2 rate_exponent=1 eps_exponent=8 decay=0 scale=50 ema=0 "
                        "fill=0 before=0 given=1";
    const char *off = "relative error", *outside = "touched memory outside";
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_forgets_to_add, conv, off, NULL);
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_drops_a_tap, conv, off, NULL);
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_shifted, conv, off, NULL);
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_one_percent_off, conv, off, NULL);
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_depends_on_threads, conv,
                  "other bits with another number of threads", NULL);
    EXPECT_CAUGHT(c, conv2d_backward, conv2d_backward_writes_past, conv, "past the end of dweight",
                  outside);
    EXPECT_CAUGHT(c, linear_backward, linear_backward_ignores_relu, relu, off, NULL);
    EXPECT_CAUGHT(c, linear_backward, linear_backward_unwritten, relu, "is nan", NULL);
    EXPECT_CAUGHT(c, group_norm_backward, group_norm_backward_wrong_eps, small, off, NULL);
    EXPECT_CAUGHT(c, group_norm_backward, group_norm_backward_swaps, modulated, off, NULL);
    EXPECT_CAUGHT(c, layer_norm_backward, layer_norm_backward_too_simple, rows, off, NULL);
    EXPECT_CAUGHT(c, attention_backward, attention_backward_ignores_uniform, uniform, off, NULL);
    EXPECT_CAUGHT(c, embedding_backward, embedding_backward_replaces, tokens, off, NULL);
    EXPECT_CAUGHT(c, adamw, adamw_without_correction, step, off, NULL);
    EXPECT_CAUGHT(c, adamw, adamw_averages_before, step, off, NULL);
    EXPECT_CAUGHT(c, adamw, adamw_forgets_a_step, behind, off, NULL);
    EXPECT_CAUGHT(c, adamw, adamw_scales_a_given_step, given, off, NULL);
    EXPECT_CAUGHT(c, moving_average, moving_average_swaps, "count=50 decay=2 fill=0", off, NULL);
    EXPECT_DIFFERENCES(c, conv2d_backward, conv2d_backward_forgets_to_add, conv);
    EXPECT_DIFFERENCES(c, conv2d_backward, conv2d_backward_drops_a_tap, conv);
    EXPECT_DIFFERENCES(c, conv2d_backward, conv2d_backward_shifted, conv);
    EXPECT_DIFFERENCES(c, conv2d_backward, conv2d_backward_one_percent_off, conv);
    EXPECT_DIFFERENCES(c, linear_backward, linear_backward_ignores_relu, relu);
    EXPECT_DIFFERENCES(c, group_norm_backward, group_norm_backward_wrong_eps, small);
    EXPECT_DIFFERENCES(c, group_norm_backward, group_norm_backward_swaps, modulated);
    EXPECT_DIFFERENCES(c, layer_norm_backward, layer_norm_backward_too_simple, rows);
    EXPECT_DIFFERENCES(c, attention_backward, attention_backward_ignores_uniform, uniform);
    EXPECT_DIFFERENCES(c, embedding_backward, embedding_backward_replaces, tokens);
}
