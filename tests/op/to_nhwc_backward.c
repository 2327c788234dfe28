#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, C, H, W, SCALED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 0},   {1, 3, 2, 5, 1},   {2, 4, 3, 5, 0},   {2, 3, 17, 9, 1},
    {1, 130, 8, 8, 0}, {1, 4, 20, 33, 1}, {1, 33, 20, 4, 0},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4, 32, 32, 0},
    {4, 3, 224, 224, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[C] = between(c, 1, coin(c) ? 4 : 70);
    p[H] = between(c, 1, 12);
    p[W] = between(c, 1, 12);
    p[SCALED] = p[C] <= 4 && coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *scale = p[SCALED] ? parameter(c, "scale", 2, 0.5, p[C]) : NULL;
    struct operand *shift = p[SCALED] ? parameter(c, "shift", -1, 0.5, p[C]) : NULL;
    const float *scaled = scale ? on(scale, REF)->data : NULL; /* host arrays, on every device */
    struct operand *x = outside(c, "x", FILL_NORMAL, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[H], p[W], p[C]));
    struct operand *dx = gradient(c, "dx", x);
    work(c, 0, 2 * (double)dy->bytes);
    RUN(c, to_nhwc_backward, on(dy, side), on(dx, side), scaled);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_to_nhwc(in_double(x), differences_output(c), in_double(scale), in_double(shift));
}

const struct op_test test_to_nhwc_backward = {
    OP_TEST(to_nhwc_backward),
    .tolerance = 1e-7,
    .parameters = {"n", "c", "h", "w", "scaled"},
};
