#include "tests/op/checker.h"

enum { N, S, D, ROWS };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 17, 3}, {2, 77, 64, 100}, {3, 5, 33, 1}, {2, 77, 512, 1000},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 77, 512, 49408},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 300);
    p[ROWS] = between(c, 1, 200);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *tokens = integers(c, "tokens", p[ROWS], DIMS(p[N], p[S]));
    struct operand *table = weight(c, "table", DIMS(p[ROWS], p[D]));
    struct operand *y = output(c, SEQUENCE(p));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, embedding, on(tokens, side), on(table, side), on(y, side));
    finish(c, embedding(c->tape, on(tokens, DEVICE), on(table, DEVICE)));
}

const struct op_test test_embedding = {
    OP_TEST(embedding),
    .tolerance = 0,
    .weight_dtypes = true,
    .parameters = {"n", "s", "d", "rows"},
};
