#include "tests/op/checker.h"

enum { N, S, D, INDEX };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 0}, {2, 3, 5, 0}, {2, 3, 5, 1}, {2, 3, 5, 2}, {3, 197, 100, 0}, {3, 77, 512, 76},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 0},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 300);
    p[INDEX] = between(c, 0, p[S] - 1);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *y = output(c, DIMS(p[N], p[D]));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, take_row, on(x, side), on(y, side), p[INDEX]);
    finish(c, take_row(c->tape, on(x, DEVICE), p[INDEX]));
}

const struct op_test test_take_row = {
    OP_TEST(take_row),
    .tolerance = 0,
    .parameters = {"n", "s", "d", "index"},
};
