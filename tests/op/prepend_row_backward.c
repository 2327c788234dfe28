#include "tests/op/checker.h"
#include "tests/op/in_double.h"

/* wanted: sum of 1 for dx, 2 for drow. */
enum { N, S, D, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 3}, {1, 1, 17, 3}, {2, 3, 5, 3},    {2, 3, 5, 1},
    {2, 3, 5, 2}, {2, 7, 64, 3}, {3, 50, 100, 3}, {1, 77, 200, 3},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 196, 768, 3},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 9, 40, 200);
    p[WANTED] = coin(c) ? 3 : between(c, 1, 3);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *row = parameter(c, "row", 0, 1, p[D]);
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[S] + 1, p[D]));
    struct operand *dx = p[WANTED] & 1 ? gradient(c, "dx", x) : NULL;
    struct operand *drow = p[WANTED] & 2 ? gradient_sum(c, "drow", row) : NULL;
    if (drow)
        drow->magnitude = 1;
    work(c, 0, 2 * (double)dy->bytes);
    RUN(c, prepend_row_backward, on(dy, side), on(dx, side), on(drow, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_prepend_row(in_double(x), in_double(row), differences_output(c));
}

const struct op_test test_prepend_row_backward = {
    OP_TEST(prepend_row_backward),
    .tolerance = 1e-6,
    .parameters = {"n", "s", "d", "wanted"},
};
