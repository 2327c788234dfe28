#include "tests/op/checker.h"

#include <math.h>

/* Learning rate 10^-RATE_EXPONENT, epsilon 10^-EPS_EXPONENT, weight decay DECAY / 100, gradient
 * scale SCALE / 100, EMA decay 1 - 10^-EMA (EMA 0: no EMA), of the step before 1 - 10^-BEFORE
 * (BEFORE 0: EMA is not behind). GIVEN: the gradient is the step, without m and v. */
enum { COUNT, STEP, RATE_EXPONENT, EPS_EXPONENT, DECAY, SCALE, EMA, FILL, BEFORE, GIVEN };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 8, 1, 100, 2, FILL_NORMAL},          {1000, 1, 1, 8, 1, 100, 2, FILL_NORMAL},
    {1003, 10, 2, 8, 0, 100, 1, FILL_NORMAL},      {70001, 3, 1, 8, 10, 100, 0, FILL_NORMAL},
    {1003, 1000, 2, 8, 50, 25, 3, FILL_NORMAL},    {517, 2, 1, 8, 1, 100, 2, FILL_LARGE},
    {517, 2, 1, 8, 1, 100, 2, FILL_SMALL},         {33, 200000, 5, 8, 1, 100, 4, FILL_NORMAL},
    {517, 2, 1, 3, 1, 100, 2, FILL_SMALL},         {1003, 5, 1, 8, 1, 100, 1, FILL_NORMAL, 1},
    {70001, 5, 1, 8, 1, 100, 2, FILL_NORMAL, 1},   {517, 5, 1, 8, 1, 100, 0, FILL_NORMAL, 1},
    {1003, 5, 1, 8, 10, 25, 2, FILL_NORMAL, 1, 1}, {70001, 5, 2, 8, 1, 100, 0, FILL_NORMAL, 0, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {10000000, 10, 5, 8, 1, 100, 4, FILL_NORMAL},
    {10000000, 10, 5, 8, 1, 100, 4, FILL_NORMAL, 4},
    {10000000, 10, 5, 8, 1, 100, 0, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, 5000);
    p[STEP] = between(c, 1, coin(c) ? 5 : 5000);
    p[RATE_EXPONENT] = between(c, 1, 5);
    p[EPS_EXPONENT] = coin(c) ? 8 : between(c, 1, 8);
    p[DECAY] = between(c, 0, 10);
    p[SCALE] = coin(c) ? 100 : between(c, 1, 200);
    p[EMA] = between(c, 0, 4);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[BEFORE] = coin(c) ? 0 : between(c, 1, 4);
    p[GIVEN] = between(c, 0, 4) == 0;
}

static void run(struct check *c, const int64_t *p)
{
    double size = fill_deviation(c, (enum fill)p[FILL]);
    double mean = fill_magnitude(c, (enum fill)p[FILL]) > 100 * size ? size : 0;
    struct operand *parameters = updated(c, "parameter", 0, 1, p[COUNT]);
    struct operand *m = p[GIVEN] ? NULL : updated(c, "m", mean, size, p[COUNT]);
    struct operand *v = p[GIVEN] ? NULL /* else positive */
                                 : updated(c, "v", 5 * size * size, size * size, p[COUNT]);
    struct operand *ema = p[EMA] ? updated(c, "ema", 0, 1, p[COUNT]) : NULL;
    struct operand *g = parameter(c, "gradient", mean, size, p[COUNT]);
    double rate = pow(10, -(double)p[RATE_EXPONENT]), epsilon = pow(10, -(double)p[EPS_EXPONENT]);
    double decay = (double)p[DECAY] / 100;
    double scale = (double)p[SCALE] / 100, ema_decay = 1 - pow(10, -(double)p[EMA]);
    double before = 1 - pow(10, -(double)p[BEFORE]);
    work(c, 0, ((ema ? 5 : 3) + (m ? 4 : 0)) * (double)g->bytes);
    RUN(c, adamw, p[COUNT], on(parameters, side)->data, m ? on(m, side)->data : NULL,
        v ? on(v, side)->data : NULL, ema ? on(ema, side)->data : NULL, on(g, side)->data, rate,
        0.9, 0.999, epsilon, decay, scale, ema_decay, p[STEP], p[BEFORE] > 0, before);
    finish(c, NULL);
}

const struct op_test test_adamw = {
    OP_TEST(adamw),
    .tolerance = 2e-6,
    .f32_only = true,
    .parameters = {"count", "step", "rate_exponent", "eps_exponent", "decay", "scale", "ema",
                   "fill", "before", "given"},
};
