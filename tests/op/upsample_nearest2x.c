#include "tests/op/checker.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 4, 3}, {2, 4, 1, 5}, {2, 3, 5, 7}, {1, 8, 8, 64}, {2, 8, 4, 130},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 64, 64, 512},
    {1, 128, 128, 256},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *y = output(c, DIMS(p[N], 2 * p[H], 2 * p[W], p[C]));
    work(c, 0, (double)x->bytes + (double)y->bytes);
    RUN(c, upsample_nearest2x, on(x, side), on(y, side));
    finish(c, upsample_nearest2x(c->tape, on(x, DEVICE)));
}

const struct op_test test_upsample_nearest2x = {
    OP_TEST(upsample_nearest2x),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c"},
};
