#include "tests/op/checker.h"

enum { N, M, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, FILL_NORMAL}, {1, 8, FILL_NORMAL}, {4, 64, FILL_NORMAL},   {3, 5, FILL_NORMAL},
    {2, 33, FILL_WIDE},  {5, 7, FILL_SMALL},  {2, 3, FILL_ZERO_ROWS},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 64, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[M] = between(c, 1, 70);
    p[FILL] = coin(c) ? FILL_NORMAL : FILL_SMALL;
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = outside(c, "x", (enum fill)p[FILL], DIMS(p[N]));
    struct operand *w = outside(c, "weight", FILL_NORMAL, DIMS(p[M], 1));
    struct operand *y = output(c, DIMS(p[N], 2 * p[M]));
    if (p[FILL] == FILL_WIDE)
        c->tolerance = 5e-5; /* angles in the hundreds have few digits after the decimal point */
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, fourier_features, on(x, side), on(w, side), on(y, side));
    finish(c, fourier_features(c->tape, on(x, DEVICE), on(w, DEVICE)));
}

const struct op_test test_fourier_features = {
    OP_TEST(fourier_features),
    .tolerance = 5e-6,
    .parameters = {"n", "m", "fill"},
};
