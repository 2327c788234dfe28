#include "tests/op/checker.h"

enum { N, C, H, W, SCALED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 0},   {1, 3, 2, 5, 1},   {2, 4, 3, 5, 0},   {2, 3, 17, 9, 1},
    {1, 130, 8, 8, 0}, {1, 4, 20, 33, 1}, {1, 33, 20, 4, 0},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 3, 256, 256, 0},
    {4, 3, 224, 224, 1},
    {4, 4, 32, 32, 0},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[C] = between(c, 1, coin(c) ? 4 : 140);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[SCALED] = p[C] <= 4 && coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *scale = p[SCALED] ? parameter(c, "scale", 2, 0.5, p[C]) : NULL;
    struct operand *shift = p[SCALED] ? parameter(c, "shift", -1, 0.5, p[C]) : NULL;
    /* Host arrays, on every device. */
    const float *scaled = scale ? on(scale, REF)->data : NULL;
    const float *shifted = shift ? on(shift, REF)->data : NULL;
    struct operand *x = outside(c, "x", FILL_NORMAL, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *y = output(c, DIMS(p[N], p[H], p[W], p[C]));
    c->magnitude = 1;
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, to_nhwc, on(x, side), on(y, side), scaled, shifted);
    finish(c, to_nhwc(c->tape, on(x, DEVICE), scaled, shifted));
}

const struct op_test test_to_nhwc = {
    OP_TEST(to_nhwc),
    .tolerance = 3e-7,
    .parameters = {"n", "c", "h", "w", "scaled"},
};
