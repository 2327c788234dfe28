#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"

enum { COUNT, FILL };
#define TOLERANCE 1e-6

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, FILL_NORMAL},       {17, FILL_NORMAL},  {100003, FILL_NORMAL},
    {5000, FILL_LARGE},     {5000, FILL_SMALL}, {300001, FILL_NEAR_CONSTANT},
    {5000, FILL_ZERO_ROWS},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {10000000, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 100 : 100000);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

/* The caller frees the result. */
static double *sums_of(struct device *d, const float *x, int64_t count)
{
    size_t bytes = (size_t)squares_segments(count) * sizeof(double), granted;
    double *sums = device_allocate(d, bytes, &granted), *host = xmalloc(bytes);
    d->backend->square_sums(d, &(struct square_sums_args){count, x, sums, NULL});
    d->backend->download(d, host, sums, bytes);
    device_release(d, sums, granted);
    return host;
}

/* A huge, infinite or NaN element must make its segment's sum non-finite. */
static void check_not_finite(struct check *c, const int64_t *p)
{
    struct device *d = c->device[DEVICE];
    float *values = xmalloc((size_t)p[COUNT] * sizeof(float));
    normals(c, values, (size_t)p[COUNT], 0, 1);
    int64_t at = between(c, 0, p[COUNT] - 1);
    values[at] = coin(c) ? NAN : coin(c) ? INFINITY : 1e15f;
    struct tensor *x = tensor_from_f32(d, DIMS(p[COUNT]), values);
    double *sums = sums_of(d, x->data, p[COUNT]), want = 0, got = sums[at / SQUARES_SEGMENT];
    for (int64_t i = 0; i < p[COUNT]; i++)
        if (i / SQUARES_SEGMENT == at / SQUARES_SEGMENT)
            want += (double)values[i] * values[i];
    if (isfinite(want) ? !(fabs(got - want) <= TOLERANCE * want) : isfinite(got))
        check_failure(c, "sum of squares with a huge or non-finite element: %g, wanted %g", got,
                      want);
    tensor_release(x);
    free(values);
    free(sums);
}

/* A segment's sum depends on nothing but its elements: not on threads, and not on what is summed
 * with it. */
static void check_bits(struct check *c, const int64_t *p, const struct operand *x,
                       const double *sums)
{
    struct device *d = c->device[DEVICE];
    const float *data = on(x, DEVICE)->data;
    int count = threads_count();
    int64_t segments = squares_segments(p[COUNT]);
    threads_init(count == 1 ? 3 : 1);
    double *again = sums_of(d, data, p[COUNT]);
    threads_init(count);
    int64_t last = segments - 1, first = last * SQUARES_SEGMENT;
    double *alone = sums_of(d, data + first, p[COUNT] - first);
    if (memcmp(sums, again, (size_t)segments * sizeof *sums) != 0)
        check_failure(c, "sums of squares have other bits with another number of threads");
    if (memcmp(sums + last, alone, sizeof *sums) != 0)
        check_failure(c, "the last segment's sum has other bits when summed alone");
    free(again);
    free(alone);
}

/* Doubles are no operands, so RUN does not see the sums. */
static void judge(struct check *c, const int64_t *p, const struct operand *x)
{
    double *got = sums_of(c->device[DEVICE], on(x, DEVICE)->data, p[COUNT]);
    double *want = sums_of(c->device[REF], on(x, REF)->data, p[COUNT]);
    for (int64_t i = 0; i < squares_segments(p[COUNT]); i++)
        if (!(fabs(got[i] - want[i]) <= TOLERANCE * want[i]))
            check_failure(c, "sum of squares %d is %.17g, wanted %.17g", (int)i, got[i], want[i]);
    check_bits(c, p, x, got);
    check_not_finite(c, p);
    free(got);
    free(want);
}

/* With a compact part in 16 bits, from element 3 on, and plain ones around it. */
static double *sums_with_compact(struct check *c, enum side side, const struct operand *x,
                                 int64_t count)
{
    struct device *d = c->device[side];
    struct update_copy row = {3, count - 8, NULL, on(x, side)->data, 1, count - 8, DTYPE_BF16};
    struct tensor *table = tensor_new(d, DTYPE_I64, DIMS(1, UPDATE_COPY_WORDS));
    tensor_upload(table, &row);
    struct update_copies copies = {table, 1, 0, 0};
    size_t bytes = (size_t)squares_segments(count) * sizeof(double), granted;
    double *sums = device_allocate(d, bytes, &granted), *host = xmalloc(bytes);
    struct square_sums_args args = {count, on(x, side)->data, sums, &copies};
    d->backend->square_sums(d, &args);
    d->backend->download(d, host, sums, bytes);
    device_release(d, sums, granted);
    tensor_release(table);
    return host;
}

static void judge_compact(struct check *c, const int64_t *p)
{
    if (p[COUNT] < 10)
        return;
    float *values = xmalloc((size_t)p[COUNT] * sizeof *values);
    uint16_t *halves = xmalloc((size_t)p[COUNT] * sizeof *halves);
    normals(c, values, (size_t)p[COUNT], 0, 1);
    dtype_from_f32(DTYPE_BF16, halves, values, (size_t)p[COUNT] - 8);
    memcpy(values, halves, ((size_t)p[COUNT] - 8) * sizeof *halves);
    struct operand *x = input_typed(c, "with_compact", DTYPE_F32, DIMS(p[COUNT]), values);
    double *got = sums_with_compact(c, DEVICE, x, p[COUNT]);
    double *want = sums_with_compact(c, REF, x, p[COUNT]);
    for (int64_t i = 0; i < squares_segments(p[COUNT]); i++)
        if (!(fabs(got[i] - want[i]) <= TOLERANCE * want[i]))
            check_failure(c, "with a compact part, sum %d is %.17g, wanted %.17g", (int)i, got[i],
                          want[i]);
    free(halves);
    free(values);
    free(got);
    free(want);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], DIMS(p[COUNT]));
    size_t bytes = (size_t)squares_segments(p[COUNT]) * sizeof(double), granted[SIDES];
    double *sums[SIDES];
    for (enum side side = REF; side < SIDES; side++)
        sums[side] = device_allocate(c->device[side], bytes, &granted[side]);
    work(c, 0, (double)x->bytes);
    RUN(c, square_sums, p[COUNT], on(x, side)->data, sums[side], NULL);
    for (enum side side = REF; side < SIDES; side++)
        device_release(c->device[side], sums[side], granted[side]);
    if (c->mode != MODE_BENCH)
        judge(c, p, x);
    /* Only updates that write working copies have compact gradients. */
    if (c->mode == MODE_COMPARE && c->device[DEVICE]->backend->convert_weights)
        judge_compact(c, p);
    finish(c, NULL);
}

const struct op_test test_square_sums = {
    OP_TEST(square_sums),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"count", "fill"},
};
