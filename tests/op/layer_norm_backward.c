#include "tests/op/checker.h"

#include <math.h>

#include "tests/op/in_double.h"

/* wanted: sum of 1 for dx, 2 for dgamma, 4 for dbeta. */
enum { N, S, C, EPS_EXPONENT, FILL, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 5, FILL_NORMAL, 7},         {1, 1, 2, 5, FILL_NORMAL, 7},
    {2, 3, 17, 5, FILL_NORMAL, 7},        {2, 3, 17, 5, FILL_NORMAL, 1},
    {2, 3, 17, 5, FILL_NORMAL, 2},        {2, 3, 17, 5, FILL_NORMAL, 4},
    {2, 7, 64, 5, FILL_NEAR_CONSTANT, 7}, {1, 5, 768, 5, FILL_SMALL, 7},
    {2, 77, 96, 5, FILL_NORMAL, 7},       {1, 77, 512, 5, FILL_LARGE, 7},
    {3, 5, 100, 6, FILL_ZERO_ROWS, 7},    {1, 4, 768, 5, FILL_NEAR_CONSTANT, 7},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 5, FILL_NORMAL, 7},
    {4, 77, 512, 5, FILL_NORMAL, 7},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[S] = between(c, 1, 40);
    p[C] = between(c, 1, coin(c) ? 40 : 400);
    p[EPS_EXPONENT] = between(c, 5, 6);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
    p[WANTED] = coin(c) ? 7 : between(c, 1, 7);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]);
    struct operand *x = activations(c, "x", fill, SEQUENCE(p));
    struct operand *gamma = parameter(c, "gamma", 1, 0.3, p[C]);
    struct operand *beta = parameter(c, "beta", 0, 0.3, p[C]);
    struct operand *dy = activations(c, "dy", FILL_NORMAL, SEQUENCE(p));
    struct operand *dx = p[WANTED] & 1 ? gradient(c, "dx", x) : NULL;
    struct operand *dgamma = p[WANTED] & 2 ? gradient_sum(c, "dgamma", gamma) : NULL;
    struct operand *dbeta = p[WANTED] & 4 ? gradient_sum(c, "dbeta", beta) : NULL;
    if (fill == FILL_NEAR_CONSTANT)
        c->tolerance = 1e-4; /* x has five digits beside its mean */
    if (dx)
        dx->magnitude = 1 / hypot(p[C] == 1 ? 0 : fill_deviation(c, fill), sqrt(eps));
    if (dgamma)
        dgamma->magnitude = 0.3 * sqrt((double)(p[N] * p[S]));
    if (dbeta)
        dbeta->magnitude = 0.3 * sqrt((double)(p[N] * p[S]));
    work(c, 0, (dx ? 3.0 : 2.0) * (double)dy->bytes);
    RUN(c, layer_norm_backward, {on(x, side), on(gamma, side), on(beta, side), on(dy, side), eps},
        on(dy, side), on(dx, side), on(dgamma, side), on(dbeta, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_layer_norm(in_double(x), in_double(gamma), in_double(beta), differences_output(c),
                          eps);
}

const struct op_test test_layer_norm_backward = {
    OP_TEST(layer_norm_backward),
    .tolerance = 5e-6,
    .parameters = {"n", "s", "c", "eps_exponent", "fill", "wanted"},
};
