#include "tests/op/checker.h"

enum { N, H, W, CA, CB };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1},     {1, 1, 1, 3, 5},      {2, 3, 5, 7, 1},     {1, 8, 8, 64, 64},
    {2, 4, 4, 512, 256}, {1, 16, 16, 100, 33}, {3, 1, 1, 512, 128},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 32, 32, 768, 768},
    {4, 8, 8, 1536, 1536},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
    p[CB] = between(c, 1, coin(c) ? 9 : 140);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *a = activations(c, "a", FILL_NORMAL, IMAGE(p));
    struct operand *b = activations(c, "b", FILL_NORMAL, DIMS(p[N], p[H], p[W], p[CB]));
    struct operand *y = output(c, DIMS(p[N], p[H], p[W], p[CA] + p[CB]));
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, concat, on(a, side), on(b, side), on(y, side));
    finish(c, concat(c->tape, on(a, DEVICE), on(b, DEVICE)));
}

const struct op_test test_concat = {
    OP_TEST(concat),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "ca", "cb"},
};
