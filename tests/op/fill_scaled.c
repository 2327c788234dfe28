#include "tests/op/checker.h"

enum { COUNT, FACTOR, DIVISOR };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1},
    {17, -8, 7200},
    {100003, 3, 7},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {7200, -8, 7200},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 100 : 100000);
    p[FACTOR] = between(c, -9, 9);
    p[DIVISOR] = between(c, 1, 10000);
}

static void run(struct check *c, const int64_t *p)
{
    double third = 1.0 / 3;
    struct operand *scale = input_typed(c, "scale", DTYPE_F64, DIMS(1), &third);
    struct operand *y = output(c, DIMS(p[COUNT]));
    work(c, 0, (double)y->bytes);
    RUN(c, fill_scaled, on(scale, side), (double)p[FACTOR], (double)p[DIVISOR], on(y, side));
    finish(c, NULL);
}

const struct op_test test_fill_scaled = {
    OP_TEST(fill_scaled),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"count", "factor", "divisor"},
};
