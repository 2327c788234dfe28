#include "tests/op/checker.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 2, 2, 1}, {1, 2, 4, 3}, {2, 6, 4, 7}, {1, 8, 8, 64}, {2, 16, 8, 130}, {3, 2, 10, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 32, 32, 768},
    {4, 8, 8, 1536},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 10, 140);
    p[H] *= 2;
    p[W] *= 2;
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *y = output(c, DIMS(p[N], p[H] / 2, p[W] / 2, p[C]));
    c->magnitude = 1;
    work(c, 0, (double)x->bytes + (double)y->bytes);
    RUN(c, avg_pool2x2, on(x, side), on(y, side));
    finish(c, avg_pool2x2(c->tape, on(x, DEVICE)));
}

const struct op_test test_avg_pool2x2 = {
    OP_TEST(avg_pool2x2),
    .tolerance = 2e-7,
    .parameters = {"n", "h", "w", "c"},
};
