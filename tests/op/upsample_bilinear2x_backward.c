#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 4, 3}, {2, 4, 1, 5}, {2, 3, 5, 7}, {1, 8, 8, 64}, {2, 8, 4, 66},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 16, 16, 256},
    {8, 4, 4, 512},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 9, 70);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], 2 * p[H], 2 * p[W], p[C]));
    struct operand *dx = gradient(c, "dx", x);
    c->magnitude = 1;
    work(c, 0, (double)(dx->bytes + dy->bytes));
    RUN(c, upsample_bilinear2x_backward, on(dy, side), on(dx, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_upsample_bilinear2x(in_double(x), differences_output(c));
}

const struct op_test test_upsample_bilinear2x_backward = {
    OP_TEST(upsample_bilinear2x_backward),
    .tolerance = 3e-7,
    .parameters = {"n", "h", "w", "c"},
};
