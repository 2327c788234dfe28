#include "tests/op/checker.h"

#include <math.h>

enum { N, S, C, EPS_EXPONENT, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 5, FILL_NORMAL},          {1, 1, 2, 5, FILL_NORMAL},
    {2, 3, 17, 5, FILL_NORMAL},         {2, 7, 64, 5, FILL_NEAR_CONSTANT},
    {1, 5, 768, 5, FILL_SMALL},         {2, 197, 192, 5, FILL_NORMAL},
    {1, 77, 512, 5, FILL_LARGE},        {3, 5, 100, 6, FILL_ZERO_ROWS},
    {1, 4, 768, 5, FILL_NEAR_CONSTANT},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 5, FILL_NORMAL},
    {4, 77, 512, 5, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[S] = between(c, 1, 80);
    p[C] = between(c, 1, coin(c) ? 40 : 800);
    p[EPS_EXPONENT] = between(c, 5, 6);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], SEQUENCE(p));
    struct operand *gamma = parameter(c, "gamma", 1, 0.3, p[C]);
    struct operand *beta = parameter(c, "beta", 0, 0.3, p[C]);
    struct operand *y = output(c, SEQUENCE(p));
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]);
    if (p[FILL] == FILL_NEAR_CONSTANT)
        c->tolerance = 2e-5; /* five digits */
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, layer_norm, on(x, side), on(gamma, side), on(beta, side), on(y, side), eps);
    finish(c, layer_norm(c->tape, on(x, DEVICE), eps, on(gamma, DEVICE), on(beta, DEVICE)));
}

const struct op_test test_layer_norm = {
    OP_TEST(layer_norm),
    .tolerance = 2e-6,
    .parameters = {"n", "s", "c", "eps_exponent", "fill"},
};
