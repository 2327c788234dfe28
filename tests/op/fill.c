#include "tests/op/checker.h"

enum { COUNT, VALUE };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 0},
    {17, 0},
    {100003, 0},
    {5000, -3},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {10000000, 0},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 100 : 100000);
    p[VALUE] = between(c, -9, 9);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = output_named(c, "x", DIMS(p[COUNT]));
    work(c, 0, (double)x->bytes);
    RUN(c, fill, p[COUNT], on(x, side)->data, (float)p[VALUE]);
    finish(c, NULL);
}

const struct op_test test_fill = {
    OP_TEST(fill),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"count", "value"},
};
