#include "tests/op/checker.h"

enum { N, H, W, C, F };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1}, {2, 3, 5, 4, 16}, {1, 32, 32, 4, 16}, {3, 8, 4, 7, 3}, {2, 2, 2, 100, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 32, 32, 4, 16},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
    p[F] = between(c, 1, 40);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *features = activations(c, "features", FILL_NORMAL, DIMS(p[N], p[F]));
    struct operand *y = output(c, DIMS(p[N], p[H], p[W], p[C] + p[F]));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, append_planes, on(x, side), on(features, side), on(y, side));
    finish(c, append_planes(c->tape, on(x, DEVICE), on(features, DEVICE)));
}

const struct op_test test_append_planes = {
    OP_TEST(append_planes),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c", "f"},
};
