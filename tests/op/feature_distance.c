#include "tests/op/checker.h"

enum { N, H, W, C, FILL };

#define EPS 1e-10f

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, FILL_NORMAL},  {1, 2, 2, 3, FILL_NORMAL},     {2, 6, 4, 7, FILL_NORMAL},
    {2, 8, 8, 64, FILL_NORMAL}, {1, 8, 16, 128, FILL_NORMAL},  {3, 3, 11, 33, FILL_NORMAL},
    {2, 7, 5, 512, FILL_LARGE}, {2, 5, 5, 64, FILL_ZERO_ROWS}, {1, 9, 8, 24, FILL_SMALL},
    {2, 8, 9, 16, FILL_WIDE},   {2, 33, 31, 256, FILL_NORMAL}, {1, 3, 3, 600, FILL_NORMAL},
    {1, 4, 4, 8, FILL_NORMAL},  {1, 20, 20, 32, FILL_NORMAL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 256, 256, 64, FILL_NORMAL}, /* LPIPS' first layer, its third */
    {4, 64, 64, 256, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[C] = between(c, 1, coin(c) ? 40 : 300);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct operand *a = activations(c, "a", fill, IMAGE(p));
    struct operand *b = activations(c, "b", fill, IMAGE(p));
    struct operand *weight_of_c = parameter(c, "weight", 0.5, 0.3, p[C]);
    struct operand *y = output_typed(c, "y", DTYPE_F32, DIMS(p[N]));
    work(c, 0, (double)a->bytes + (double)b->bytes);
    if (fill == FILL_NEAR_CONSTANT)
        c->tolerance = 2e-3; /* directions differ in few digits */
    if (p[C] == 1)
        c->magnitude = 1; /* both have the same direction or opposite ones */
    RUN(c, feature_distance, on(a, side), on(b, side), on(weight_of_c, side), on(y, side), EPS);
    finish(c,
           feature_distance(c->tape, on(a, DEVICE), on(b, DEVICE), on(weight_of_c, DEVICE), EPS));
}

const struct op_test test_feature_distance = {
    OP_TEST(feature_distance),
    .tolerance = 2e-6,
    .parameters = {"n", "h", "w", "c", "fill"},
};
