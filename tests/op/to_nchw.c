#include "tests/op/checker.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 1, 17}, {2, 3, 5, 7}, {1, 8, 8, 64}, {3, 16, 16, 130}, {1, 64, 64, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 256, 256, 3},
    {4, 32, 32, 4},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *y = output_typed(c, "y", DTYPE_F32, DIMS(p[N], p[C], p[H], p[W]));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, to_nchw, on(x, side), on(y, side));
    finish(c, to_nchw(c->tape, on(x, DEVICE)));
}

const struct op_test test_to_nchw = {
    OP_TEST(to_nchw),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c"},
};
