#include "tests/op/checker.h"

/* sampled: 0 without noise. Log-variances of FILL_WIDE are clamped here and there. */
enum { N, Z, H, W, FILL, SAMPLED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, FILL_NORMAL, 1}, {2, 4, 3, 5, FILL_NORMAL, 1},  {2, 4, 3, 5, FILL_NORMAL, 0},
    {3, 4, 8, 8, FILL_WIDE, 1},   {9, 4, 32, 32, FILL_SMALL, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4, 32, 32, FILL_NORMAL, 1},
    {64, 4, 32, 32, FILL_NORMAL, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[Z] = between(c, 1, 5);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[FILL] = coin(c) ? FILL_NORMAL : FILL_SMALL;
    p[SAMPLED] = coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *moments =
        activations(c, "moments", (enum fill)p[FILL], DIMS(p[N], 2 * p[Z], p[H], p[W]));
    struct operand *noise =
        p[SAMPLED] ? activations(c, "noise", FILL_NORMAL, DIMS(p[N], p[Z], p[H], p[W])) : NULL;
    struct operand *z = output_named(c, "z", DIMS(p[N], p[Z], p[H], p[W]));
    struct operand *kl = output_typed(c, "kl", DTYPE_F64, DIMS(p[N]));
    c->magnitude = 1;
    work(c, 0, (double)(moments->bytes + 2 * z->bytes));
    RUN(c, posterior, on(moments, side), on(noise, side), on(z, side), on(kl, side));
    finish(c, NULL);
}

const struct op_test test_posterior = {
    OP_TEST(posterior),
    .tolerance = 1e-6,
    .f32_only = true,
    .parameters = {"n", "z", "h", "w", "fill", "sampled"},
};
