#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 1, 17}, {2, 3, 5, 7}, {1, 8, 8, 64}, {3, 16, 16, 20}, {1, 20, 20, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 4},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 9, 70);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *dy = outside(c, "dy", FILL_NORMAL, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *dx = gradient(c, "dx", x);
    work(c, 0, (double)(dx->bytes + dy->bytes));
    RUN(c, to_nchw_backward, on(dy, side), on(dx, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_to_nchw(in_double(x), differences_output(c));
}

const struct op_test test_to_nchw_backward = {
    OP_TEST(to_nchw_backward),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c"},
};
