#include "tests/op/checker.h"

enum { N, H, W, C };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1},
    {1, 1, 1, 17},
    {2, 3, 5, 7},
    {2, 3, 32, 32},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 3, 256, 256},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
}

static void run(struct check *c, const int64_t *p)
{
    double third = 1.0 / 3;
    struct operand *a = activations(c, "a", FILL_NORMAL, IMAGE(p));
    struct operand *b = activations(c, "b", FILL_NORMAL, IMAGE(p));
    struct operand *scale = input_typed(c, "scale", DTYPE_F64, DIMS(1), &third);
    struct operand *y = output(c, IMAGE(p));
    c->magnitude = 1;
    work(c, 0, 3 * (double)y->bytes);
    RUN(c, add_scaled, on(a, side), on(b, side), on(scale, side), on(y, side));
    const float by = (float)third;
    struct tensor *both[] = {on(a, DEVICE), on(b, DEVICE)};
    finish(c, linear_combination(c->tape, 2, both, (const float[]){1, by}));
}

const struct op_test test_add_scaled = {
    OP_TEST(add_scaled),
    .tolerance = 5e-7,
    .f32_only = true,
    .parameters = {"n", "h", "w", "c"},
};
