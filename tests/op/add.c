#include "tests/op/checker.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1}, {1, 1, 1, 17}, {2, 3, 5, 7}, {1, 8, 8, 64}, {3, 16, 16, 130}, {1, 64, 64, 33},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 32, 32, 768},
    {1, 256, 256, 128},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *a = activations(c, "a", FILL_NORMAL, IMAGE(p));
    struct operand *b = activations(c, "b", FILL_NORMAL, IMAGE(p));
    struct operand *y = output(c, IMAGE(p));
    work(c, 0, 3 * (double)y->bytes);
    RUN(c, add, on(a, side), on(b, side), on(y, side));
    finish(c, add(c->tape, on(a, DEVICE), on(b, DEVICE)));
}

const struct op_test test_add = {
    OP_TEST(add),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c"},
};
