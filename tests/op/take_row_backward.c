#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, S, D, INDEX };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 0}, {2, 3, 5, 0}, {2, 3, 5, 1}, {2, 3, 5, 2}, {3, 197, 100, 0}, {3, 77, 512, 76},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 0},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 200);
    p[INDEX] = between(c, 0, p[S] - 1);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, SEQUENCE(p));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[D]));
    struct operand *dx = gradient(c, "dx", x);
    work(c, 0, (double)(dx->bytes + dy->bytes));
    RUN(c, take_row_backward, on(dy, side), on(dx, side), p[INDEX]);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_take_row(in_double(x), differences_output(c), p[INDEX]);
}

const struct op_test test_take_row_backward = {
    OP_TEST(take_row_backward),
    .tolerance = 0,
    .parameters = {"n", "s", "d", "index"},
};
