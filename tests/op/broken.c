#include "tests/op/broken.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/tap.h"

/* Kernels with one mistake each, which the checker must detect. */

static void conv2d_shifted(struct device *d, const struct conv2d_args *a)
{
    struct conv2d_args shifted = *a;
    shifted.pad_begin--;
    ref_conv2d(d, &shifted);
}

static void conv2d_wrong_half(struct device *d, const struct conv2d_args *a)
{
    struct tensor weight = *a->weight;
    weight.dtype = weight.dtype == DTYPE_BF16 ? DTYPE_F16 : DTYPE_BF16;
    struct conv2d_args wrong = *a;
    wrong.weight = &weight;
    ref_conv2d(d, &wrong);
}

static void add_unwritten(struct device *d, const struct add_args *a)
{
    float *last = (float *)a->y->data + tensor_count(a->y) - 1, kept = *last;
    ref_add(d, a);
    *last = kept;
}

static void add_writes_past(struct device *d, const struct add_args *a)
{
    ref_add(d, a);
    ((volatile float *)a->y->data)[tensor_count(a->y)] = 0;
}

static void add_writes_before(struct device *d, const struct add_args *a)
{
    ref_add(d, a);
    ((volatile float *)a->y->data)[-1] = 0;
}

static void add_reads_past(struct device *d, const struct add_args *a)
{
    ref_add(d, a);
    ((float *)a->y->data)[0] += 0 * ((volatile float *)a->b->data)[tensor_count(a->b)];
}

static void add_in_place(struct device *d, const struct add_args *a)
{
    ref_add(d, a);
    memcpy(a->a->data, a->y->data, (size_t)tensor_count(a->y) * sizeof(float));
}

static void group_norm_nan(struct device *d, const struct group_norm_args *a)
{
    ref_group_norm(d, a);
    ((float *)a->y->data)[tensor_count(a->y) / 2] = NAN;
}

static void group_norm_wrong_eps(struct device *d, const struct group_norm_args *a)
{
    struct group_norm_args wrong = *a;
    wrong.eps = 1e-5f;
    ref_group_norm(d, &wrong);
}

/* One group, no parameters: E[x^2] - E[x]^2 in float. */
static void group_norm_cancels(struct device *d, const struct group_norm_args *a)
{
    int64_t count = tensor_count(a->x) / a->x->shape[0];
    for (int64_t n = 0; n < a->x->shape[0]; n++) {
        const float *x = (const float *)a->x->data + n * count;
        float sum = 0, squares = 0;
        for (int64_t i = 0; i < count; i++) {
            sum += x[i];
            squares += x[i] * x[i];
        }
        float mean = sum / (float)count, variance = squares / (float)count - mean * mean;
        for (int64_t i = 0; i < count; i++)
            ((float *)a->y->data)[n * count + i] =
                (x[i] - mean) / sqrtf(fmaxf(variance, 0) + a->eps);
    }
}

static void l2_normalize_no_eps(struct device *d, const struct l2_normalize_args *a)
{
    struct l2_normalize_args wrong = *a;
    wrong.eps = 0;
    ref_l2_normalize(d, &wrong);
}

static void attention_ignores_uniform(struct device *d, const struct attention_args *a)
{
    struct attention_args wrong = *a;
    wrong.uniform = NULL;
    ref_attention(d, &wrong);
}

static void linear_one_element_off(struct device *d, const struct linear_args *a)
{
    ref_linear(d, a);
    ((float *)a->y->data)[tensor_count(a->y) - 1] += 0.01f;
}

static void linear_depends_on_batch(struct device *d, const struct linear_args *a)
{
    ref_linear(d, a);
    float *y = a->y->data;
    if (tensor_rows(a->y) > 3)
        y[0] = nextafterf(y[0], 2);
}

/* The public op's allocations have margins, so that writes out of bounds do no harm. */
enum { MARGIN = 4096 };

static void *allocate_between_margins(struct device *d, size_t bytes)
{
    return (char *)xmalloc(bytes + 2 * MARGIN) + MARGIN;
}

static void deallocate_between_margins(struct device *d, void *p)
{
    free((char *)p - MARGIN);
}

void broken_check_init(struct broken_check *b, const struct check *c)
{
    struct error e;
    if (device_open(&b->device, "ref", &e) != 0)
        die("cannot open device 'ref': %s", e.text);
    b->backend = *b->device->backend;
    b->backend.allocate = allocate_between_margins;
    b->backend.deallocate = deallocate_between_margins;
    b->device->backend = &b->backend;
    tape_init(&b->tape, b->device);
    b->check = *c;
    b->check.device[DEVICE] = b->device;
    b->check.tape = &b->tape;
}

void broken_check_release(struct broken_check *b)
{
    tape_release(&b->tape);
    device_close(b->device);
}

void expect_caught(struct broken_check *b, const struct op_test *test, const char *mistake,
                   const char *parameters, const char *reason, const char *other_reason)
{
    int64_t p[MAX_PARAMETERS] = {0};
    CHECK(parse_parameters(test, parameters, p));
    b->check.test = test;
    b->check.weight_dtype = test->weight_dtypes ? DTYPE_BF16 : DTYPE_F32;
    bool caught = true;
    for (uint64_t seed = 1; seed <= 8 && caught; seed++) {
        b->device->host_memory = seed % 2;
        fault_expected = true;
        bool passed = check_case(&b->check, p, seed);
        fault_expected = false;
        caught = !passed && (strstr(b->check.failure, reason) ||
                             (other_reason && strstr(b->check.failure, other_reason)));
    }
    if (!tap_ok(caught, "broken kernel is caught: %s %s", test->name, mistake))
        tap_diag("%s", b->check.failure[0] ? b->check.failure : "it passed");
}

static void expect_unbroken(const struct check *c)
{
    static const struct {
        const struct op_test *test;
        const char *parameters;
    } cases[] = {
        {&test_add, "n=2 h=3 w=5 c=7"},
        {&test_conv2d, "n=1 h=5 w=6 ci=4 co=3 k=3 stride=1 pad_begin=1 pad_end=1 bias=1 fill=0"},
        {&test_group_norm, "n=2 h=8 w=8 c=16 groups=1 eps_exponent=6 affine=0 modulation=0 act=0 "
                           "fill=1"},
        {&test_linear_backward, "n=3 s=2 in=9 out=12 dims=2 wdims=2 bias=1 act=1 fill=0 wanted=7"},
    };
    struct broken_check b;
    broken_check_init(&b, c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t p[MAX_PARAMETERS] = {0};
        CHECK(parse_parameters(cases[i].test, cases[i].parameters, p));
        b.check.test = cases[i].test;
        b.check.weight_dtype = cases[i].test->weight_dtypes ? DTYPE_BF16 : DTYPE_F32;
        for (int host = 0; host <= 1; host++) {
            b.device->host_memory = host;
            if (!tap_ok(check_case(&b.check, p, 1), "the same %s unbroken passes, %s memory",
                        cases[i].test->name, host ? "host" : "device"))
                tap_diag("%s", b.check.failure);
        }
    }
    broken_check_release(&b);
}

void check_broken_kernels(const struct check *c)
{
    const char *conv = "n=1 h=5 w=6 ci=4 co=3 k=3 stride=1 pad_begin=1 pad_end=1 bias=1 fill=0";
    const char *sum = "n=2 h=3 w=5 c=7";
    const char *outside = "touched memory outside";
    expect_unbroken(c);
    EXPECT_CAUGHT(c, conv2d, conv2d_shifted, conv, "relative error", NULL);
    EXPECT_CAUGHT(c, conv2d, conv2d_wrong_half, conv, "relative error", NULL);
    EXPECT_CAUGHT(c, add, add_unwritten, sum, "is nan", NULL);
    EXPECT_CAUGHT(c, add, add_writes_past, sum, "past the end of y", outside);
    EXPECT_CAUGHT(c, add, add_writes_before, sum, "before the start of y", outside);
    EXPECT_CAUGHT(c, add, add_reads_past, sum, "is nan", outside);
    EXPECT_CAUGHT(c, add, add_in_place, sum, "changed its input a", NULL);
    EXPECT_CAUGHT(c, group_norm, group_norm_nan,
                  "n=1 h=4 w=4 c=8 groups=2 eps_exponent=6 affine=1 modulation=0 act=0 fill=0",
                  "is nan", NULL);
    EXPECT_CAUGHT(c, group_norm, group_norm_wrong_eps,
                  "n=1 h=4 w=4 c=64 groups=32 eps_exponent=6 affine=1 modulation=0 act=2 fill=3",
                  "relative error", NULL);
    EXPECT_CAUGHT(c, group_norm, group_norm_cancels,
                  "n=2 h=8 w=8 c=16 groups=1 eps_exponent=6 affine=0 modulation=0 act=0 fill=1",
                  "relative error", NULL);
    EXPECT_CAUGHT(c, l2_normalize, l2_normalize_no_eps, "n=2 d=9 eps_exponent=12 fill=5", "is",
                  "relative error");
    EXPECT_CAUGHT(c, attention, attention_ignores_uniform,
                  "n=2 s=6 heads=2 d=8 packed=0 uniform=1 fill=0", "relative error", NULL);
    EXPECT_CAUGHT(c, linear, linear_one_element_off,
                  "n=2 s=3 in=20 out=30 dims=3 wdims=2 bias=1 act=0 fill=0", "relative error",
                  NULL);
    EXPECT_CAUGHT(c, linear, linear_depends_on_batch,
                  "n=2 s=3 in=20 out=30 dims=3 wdims=2 bias=1 act=0 fill=0", "image 0 alone", NULL);
}
