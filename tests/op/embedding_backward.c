#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, S, D, ROWS };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 17, 3}, {2, 77, 64, 100}, {3, 5, 33, 1}, {2, 77, 100, 1000}, {9, 40, 5, 2},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 77, 512, 49408},
    {128, 77, 512, 49408},
};

static void draw(struct check *c, int64_t *p)
{
    draw_sequence(c, p, 4, 80, 100);
    p[ROWS] = between(c, 1, 200);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *tokens = integers(c, "tokens", p[ROWS], DIMS(p[N], p[S]));
    struct operand *table = weight(c, "table", DIMS(p[ROWS], p[D]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, SEQUENCE(p));
    struct operand *dtable = gradient_sum(c, "dtable", table);
    dtable->magnitude = 1;
    work(c, 0, 3 * (double)dy->bytes);
    RUN(c, embedding_backward, {on(tokens, side), on(table, side), on(dy, side)}, on(dy, side),
        on(dtable, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_embedding(in_double(tokens), in_double(table), differences_output(c));
}

const struct op_test test_embedding_backward = {
    OP_TEST(embedding_backward),
    .tolerance = 1e-6,
    .parameters = {"n", "s", "d", "rows"},
};
