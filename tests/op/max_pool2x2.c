#include "tests/op/checker.h"

enum { N, H, W, C, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 2, 2, 1, FILL_NORMAL},  {1, 2, 4, 3, FILL_NORMAL},     {2, 6, 4, 7, FILL_NORMAL},
    {1, 8, 8, 64, FILL_NORMAL}, {2, 16, 8, 130, FILL_NORMAL},  {3, 3, 11, 33, FILL_NORMAL},
    {2, 7, 5, 64, FILL_NORMAL}, {2, 8, 8, 32, FILL_ZERO_ROWS}, {1, 9, 8, 24, FILL_LARGE},
    {1, 8, 9, 24, FILL_NORMAL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 256, 256, 64, FILL_NORMAL}, /* VGG16 */
    {4, 64, 64, 256, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[H] = between(c, 2, 20);
    p[W] = between(c, 2, 20);
    p[C] = between(c, 1, coin(c) ? 9 : 140);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], IMAGE(p));
    struct operand *y = output(c, DIMS(p[N], p[H] / 2, p[W] / 2, p[C]));
    work(c, 0, (double)x->bytes + (double)y->bytes);
    RUN(c, max_pool2x2, on(x, side), on(y, side));
    finish(c, max_pool2x2(c->tape, on(x, DEVICE)));
}

const struct op_test test_max_pool2x2 = {
    OP_TEST(max_pool2x2),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c", "fill"},
};
