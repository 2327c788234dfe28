#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, S, D };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1}, {1, 1, 17}, {2, 3, 5}, {2, 7, 64}, {3, 50, 100}, {1, 77, 200}, {40, 4, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 9, 40, 200);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *rows = outside(c, "rows", FILL_NORMAL, DIMS(p[S], p[D]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, SEQUENCE(p));
    struct operand *drows = gradient_sum(c, "drows", rows);
    drows->magnitude = 1;
    work(c, 0, (double)dy->bytes);
    RUN(c, add_rows_backward, on(dy, side), on(drows, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_add_rows(in_double(x), in_double(rows), differences_output(c));
}

const struct op_test test_add_rows_backward = {
    OP_TEST(add_rows_backward),
    .tolerance = 1e-6,
    .parameters = {"n", "s", "d"},
};
