#include "tests/op/checker.h"

enum { N, S, D };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1}, {1, 1, 17}, {2, 3, 5}, {2, 7, 64}, {3, 197, 100}, {1, 77, 512},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 300);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *rows = outside(c, "rows", FILL_NORMAL, DIMS(p[S], p[D]));
    struct operand *y = output(c, SEQUENCE(p));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, add_rows, on(x, side), on(rows, side), on(y, side));
    finish(c, add_rows(c->tape, on(x, DEVICE), on(rows, DEVICE)));
}

const struct op_test test_add_rows = {
    OP_TEST(add_rows),
    .tolerance = 0,
    .parameters = {"n", "s", "d"},
};
