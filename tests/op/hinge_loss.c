#include "tests/op/checker.h"

/* fake: 1 for logits of reconstructions; wanted: 1 for dx. */
enum { N, H, W, FILL, FAKE, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, FILL_NORMAL, 0, 1},
    {2, 5, 7, FILL_NORMAL, 1, 1},
    {2, 5, 7, FILL_WIDE, 0, 0},
    {8, 30, 30, FILL_NORMAL, 1, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 30, 30, FILL_NORMAL, 0, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[H] = between(c, 1, 30);
    p[W] = between(c, 1, 30);
    p[FILL] = coin(c) ? FILL_NORMAL : FILL_WIDE;
    p[FAKE] = coin(c);
    p[WANTED] = coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], DIMS(p[N], 1, p[H], p[W]));
    struct operand *means = output_typed(c, "means", DTYPE_F64, DIMS(2));
    struct operand *dx = p[WANTED] ? output_named(c, "dx", DIMS(p[N], 1, p[H], p[W])) : NULL;
    c->magnitude = fill_deviation(c, (enum fill)p[FILL]);
    work(c, 0, (p[WANTED] ? 2 : 1) * (double)x->bytes);
    RUN(c, hinge_loss, on(x, side), p[FAKE] ? -1 : 1, 0.5, on(means, side), on(dx, side));
    finish(c, NULL);
}

const struct op_test test_hinge_loss = {
    OP_TEST(hinge_loss),
    .tolerance = 1e-6,
    .f32_only = true,
    .parameters = {"n", "h", "w", "fill", "fake", "wanted"},
};
