#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, H, W, C, F };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1}, {2, 3, 5, 4, 16}, {1, 16, 16, 4, 16}, {3, 8, 4, 7, 3}, {2, 2, 2, 100, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 4, 16},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 12, 100);
    p[F] = between(c, 1, 40);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *features = activations(c, "features", FILL_NORMAL, DIMS(p[N], p[F]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[H], p[W], p[C] + p[F]));
    struct operand *dx = gradient(c, "dx", x);
    work(c, 0, (double)(dx->bytes + dy->bytes));
    RUN(c, append_planes_backward, on(dy, side), on(dx, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_append_planes(in_double(x), in_double(features), differences_output(c));
}

const struct op_test test_append_planes_backward = {
    OP_TEST(append_planes_backward),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c", "f"},
};
