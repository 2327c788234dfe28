#include "tests/op/checker.h"

#include <math.h>

#include "tests/op/in_double.h"

/* eps is 10^-EPS_EXPONENT, scale the square root of d. */
enum { N, D, EPS_EXPONENT, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 12, FILL_NORMAL},     {1, 17, 12, FILL_NORMAL},    {4, 512, 12, FILL_NORMAL},
    {4, 512, 2, FILL_ZERO_ROWS}, {4, 50, 12, FILL_ZERO_ROWS}, {3, 100, 12, FILL_LARGE},
    {3, 100, 12, FILL_SMALL},    {3, 33, 2, FILL_SMALL},      {3, 100, 12, FILL_NEAR_CONSTANT},
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
    enum fill fill = (enum fill)p[FILL];
    if (fill == FILL_ZERO_ROWS && c->dtype == DTYPE_F16)
        fill = FILL_NORMAL; /* their gradients overflow it */
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]), scale = sqrtf((float)p[D]);
    struct operand *x = activations(c, "x", fill, DIMS(p[N], p[D]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[D]));
    struct operand *dx = gradient(c, "dx", x);
    dx->magnitude = 1 / fmax(fill_magnitude(c, fill), eps / scale);
    work(c, 0, 3 * (double)dy->bytes);
    RUN(c, l2_normalize_backward, {on(x, side), on(dy, side), eps, scale}, on(dy, side),
        on(dx, side));
    finish(c, NULL);
    if (fill == FILL_ZERO_ROWS && p[EPS_EXPONENT] > 4)
        return; /* no step is small compared with that eps */
    for (differences_begin(c, dy); differences_next(c);)
        double_l2_normalize(in_double(x), differences_output(c), eps, scale);
}

const struct op_test test_l2_normalize_backward = {
    OP_TEST(l2_normalize_backward),
    .tolerance = 3e-6,
    .parameters = {"n", "d", "eps_exponent", "fill"},
};
