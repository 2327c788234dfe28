#include "tests/op/checker.h"

#include <math.h>

/* Decay 1 - 10^-DECAY. */
enum { COUNT, DECAY, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 2, FILL_NORMAL},
    {1003, 1, FILL_NORMAL},
    {70001, 3, FILL_NORMAL},
    {517, 2, FILL_LARGE},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {10000000, 4, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, 5000);
    p[DECAY] = between(c, 0, 4);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
}

static void run(struct check *c, const int64_t *p)
{
    double size = fill_deviation(c, (enum fill)p[FILL]);
    struct operand *average = updated(c, "average", 0, size, p[COUNT]);
    struct operand *x = parameter(c, "x", 0, size, p[COUNT]);
    work(c, 0, 3 * (double)x->bytes);
    RUN(c, moving_average, p[COUNT], on(average, side)->data, on(x, side)->data,
        1 - pow(10, -(double)p[DECAY]));
    finish(c, NULL);
}

const struct op_test test_moving_average = {
    OP_TEST(moving_average),
    .tolerance = 5e-7,
    .f32_only = true,
    .parameters = {"count", "decay", "fill"},
};
