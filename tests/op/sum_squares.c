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

/* A huge, infinite or NaN element must make the sum non-finite. */
static void check_not_finite(struct check *c, const int64_t *p)
{
    struct device *d = c->device[DEVICE];
    float *values = xmalloc((size_t)p[COUNT] * sizeof(float));
    normals(c, values, (size_t)p[COUNT], 0, 1);
    values[between(c, 0, p[COUNT] - 1)] = coin(c) ? NAN : coin(c) ? INFINITY : 1e15f;
    struct tensor *x = tensor_from_f32(d, DIMS(p[COUNT]), values);
    double sum = 0, want = 0;
    for (int64_t i = 0; i < p[COUNT]; i++)
        want += (double)values[i] * values[i];
    d->backend->sum_squares(d, &(struct sum_squares_args){p[COUNT], x->data, &sum});
    if (isfinite(want) ? !(fabs(sum - want) <= TOLERANCE * want) : isfinite(sum))
        check_failure(c, "sum of squares with a huge or non-finite element: %g, wanted %g", sum,
                      want);
    tensor_release(x);
    free(values);
}

/* The sum is no tensor, so RUN does not see its bits. */
static void check_threads(struct check *c, const int64_t *p, const struct operand *x)
{
    struct device *d = c->device[DEVICE];
    int count = threads_count();
    double sums[2];
    for (int i = 0; i < 2; i++) {
        d->backend->sum_squares(
            d, &(struct sum_squares_args){p[COUNT], on(x, DEVICE)->data, &sums[i]});
        threads_init(i ? count : count == 1 ? 3 : 1);
    }
    if (memcmp(&sums[0], &sums[1], sizeof *sums))
        check_failure(c, "sum of squares has other bits with another number of threads");
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], DIMS(p[COUNT]));
    double sums[SIDES] = {-1, -1};
    work(c, 0, (double)x->bytes);
    RUN(c, sum_squares, p[COUNT], on(x, side)->data, &sums[side]);
    finish(c, NULL);
    check_threads(c, p, x);
    if (!(fabs(sums[DEVICE] - sums[REF]) <= TOLERANCE * sums[REF]) && c->mode != MODE_BENCH)
        check_failure(c, "sum of squares is %.17g, wanted %.17g", sums[DEVICE], sums[REF]);
    check_not_finite(c, p);
}

const struct op_test test_sum_squares = {
    OP_TEST(sum_squares),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"count", "fill"},
};
