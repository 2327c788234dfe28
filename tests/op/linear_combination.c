#include "tests/op/checker.h"

#include <string.h>

enum { N, H, W, C, COUNT };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1},   {1, 1, 1, 17, 2}, {2, 3, 5, 7, 3},
    {2, 4, 32, 32, 4}, {1, 8, 8, 33, 8}, {3, 4, 5, 5, 5},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 4, 32, 32, 2},
    {4, 4, 32, 32, 5},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
    p[COUNT] = between(c, 1, LINEAR_COMBINATION_MAX);
}

static void run(struct check *c, const int64_t *p)
{
    static const char *const names[LINEAR_COMBINATION_MAX] = {"x0", "x1", "x2", "x3",
                                                              "x4", "x5", "x6", "x7"};
    struct linear_combination_args args[SIDES] = {{.count = (int)p[COUNT]}};
    struct operand *x[LINEAR_COMBINATION_MAX];
    struct tensor *inputs[LINEAR_COMBINATION_MAX];
    for (int i = 0; i < args[REF].count; i++) {
        x[i] = activations(c, names[i], FILL_NORMAL, IMAGE(p));
        inputs[i] = on(x[i], DEVICE);
    }
    struct operand *coefficients = parameter(c, "coefficients", 0, 1, p[COUNT]);
    memcpy(args[REF].coefficients, on(coefficients, REF)->data, coefficients->bytes);
    args[DEVICE] = args[REF];
    struct operand *y = output(c, IMAGE(p));
    for (enum side side = REF; side < SIDES; side++) {
        args[side].y = on(y, side);
        for (int i = 0; i < args[side].count; i++)
            args[side].x[i] = on(x[i], side);
    }
    c->magnitude = 1;
    work(c, 0, (double)(p[COUNT] + 1) * (double)y->bytes);
    for (enum side side = REF; side < SIDES; side++)
        while (run_again(c, side))
            c->device[side]->backend->linear_combination(c->device[side], &args[side]);
    finish(c, linear_combination(c->tape, (int)p[COUNT], inputs, args[REF].coefficients));
}

const struct op_test test_linear_combination = {
    OP_TEST(linear_combination),
    .tolerance = 5e-7,
    .f32_only = true,
    .parameters = {"n", "h", "w", "c", "count"},
};
