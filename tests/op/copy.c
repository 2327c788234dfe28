#include "tests/op/checker.h"

enum { COUNT };

static const int64_t sweep[][MAX_PARAMETERS] = {{1}, {17}, {100003}};

static const int64_t bench[][MAX_PARAMETERS] = {{10000000}};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 100 : 100000);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, DIMS(p[COUNT]));
    struct operand *y = output(c, DIMS(p[COUNT]));
    work(c, 0, 2 * (double)x->bytes);
    RUN(c, copy, on(x, side)->data, on(y, side)->data, x->bytes);
    finish(c, NULL);
}

const struct op_test test_copy = {
    OP_TEST(copy),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"count"},
};
