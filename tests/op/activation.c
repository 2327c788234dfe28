#include "tests/op/checker.h"

enum { N, H, W, C, KIND, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, ACTIVATION_RELU, FILL_NORMAL},
    {1, 1, 1, 1, ACTIVATION_SILU, FILL_NORMAL},
    {1, 1, 1, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 1, 1, 17, ACTIVATION_NONE, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_RELU, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_SILU, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_GELU, FILL_NORMAL},
    {1, 16, 16, 130, ACTIVATION_SILU, FILL_NORMAL},
    {1, 16, 16, 130, ACTIVATION_GELU, FILL_NORMAL},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_LARGE},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_LARGE},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_WIDE},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_WIDE},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_SMALL},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_SMALL},
    {2, 3, 5, 7, ACTIVATION_LEAKY_RELU, FILL_NORMAL},
    {1, 8, 8, 64, ACTIVATION_LEAKY_RELU, FILL_LARGE},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 64, 64, 512, ACTIVATION_SILU, FILL_NORMAL},
    {4, 1, 197, 3072, ACTIVATION_GELU, FILL_NORMAL},
    {1, 1, 1, 1024, ACTIVATION_RELU, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
    p[KIND] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], IMAGE(p));
    struct operand *y = output(c, IMAGE(p));
    enum activation_kind kind = (enum activation_kind)p[KIND];
    c->magnitude = fill_magnitude(c, (enum fill)p[FILL]);
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, activation, on(x, side), on(y, side), kind);
    finish(c, activation(c->tape, on(x, DEVICE), kind));
}

const struct op_test test_activation = {
    OP_TEST(activation),
    .tolerance = 1e-6,
    .parameters = {"n", "h", "w", "c", "kind", "fill"},
};
