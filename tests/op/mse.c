#include "tests/op/checker.h"

/* wanted: 1 for dx. */
enum { N, C, H, W, FILL, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, FILL_NORMAL, 1},        {2, 3, 5, 7, FILL_NORMAL, 1},
    {2, 3, 5, 7, FILL_NORMAL, 0},        {8, 4, 32, 32, FILL_NORMAL, 1},
    {3, 4, 9, 9, FILL_NEAR_CONSTANT, 1}, {3, 4, 9, 9, FILL_LARGE, 1},
    {3, 4, 9, 9, FILL_SMALL, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4, 32, 32, FILL_NORMAL, 1},
    {64, 4, 32, 32, FILL_NORMAL, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[C] = between(c, 1, 9);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[WANTED] = coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct operand *x = activations(c, "x", fill, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *target = activations(c, "target", fill, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *loss = output_named(c, "loss", DIMS(p[N]));
    struct operand *dx = p[WANTED] ? output_named(c, "dx", DIMS(p[N], p[C], p[H], p[W])) : NULL;
    struct operand *weight_of_one =
        parameter(c, "weight", 1 / (double)(p[N] * p[C] * p[H] * p[W]), 0, 1);
    work(c, 0, 3 * (double)x->bytes);
    RUN(c, mse, on(x, side), on(target, side), dx ? on(weight_of_one, side) : NULL, on(loss, side),
        on(dx, side));
    finish(c, NULL);
}

const struct op_test test_mse = {
    .name = "mse",
    .tolerance = 2e-6,
    .parameters = {"n", "c", "h", "w", "fill", "wanted"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
