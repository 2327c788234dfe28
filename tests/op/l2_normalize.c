#include "tests/op/checker.h"

#include <math.h>

/* eps is 10^-EPS_EXPONENT, scale the square root of d. */
enum { N, D, EPS_EXPONENT, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 12, FILL_NORMAL},      {1, 17, 12, FILL_NORMAL},     {4, 512, 12, FILL_NORMAL},
    {4, 512, 12, FILL_ZERO_ROWS}, {1, 512, 12, FILL_ZERO_ROWS}, {3, 100, 12, FILL_LARGE},
    {3, 100, 12, FILL_SMALL},     {3, 33, 2, FILL_SMALL},       {3, 100, 12, FILL_NEAR_CONSTANT},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 512, 12, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[D] = between(c, 1, coin(c) ? 9 : 600);
    p[EPS_EXPONENT] = coin(c) ? 12 : between(c, 1, 6);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], DIMS(p[N], p[D]));
    struct operand *y = output(c, DIMS(p[N], p[D]));
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]), scale = sqrtf((float)p[D]);
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, l2_normalize, on(x, side), on(y, side), eps, scale);
    finish(c, l2_normalize(c->tape, on(x, DEVICE), eps, scale));
}

const struct op_test test_l2_normalize = {
    OP_TEST(l2_normalize),
    .tolerance = 1e-6,
    .parameters = {"n", "d", "eps_exponent", "fill"},
};
