#include "tests/op/checker.h"

enum { N, S, D };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1}, {1, 1, 17}, {2, 3, 5}, {2, 7, 64}, {3, 197, 100}, {1, 77, 512},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 196, 768},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 300);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *row = parameter(c, "row", 0, 1, p[D]);
    struct operand *y = output(c, DIMS(p[N], p[S] + 1, p[D]));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, prepend_row, on(x, side), on(row, side), on(y, side));
    finish(c, prepend_row(c->tape, on(x, DEVICE), on(row, DEVICE)));
}

const struct op_test test_prepend_row = {
    OP_TEST(prepend_row),
    .tolerance = 0,
    .parameters = {"n", "s", "d"},
};
