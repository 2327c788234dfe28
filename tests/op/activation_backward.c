#include "tests/op/checker.h"
#include "tests/op/in_double.h"

enum { N, H, W, C, KIND, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, ACTIVATION_RELU, FILL_NORMAL},
    {1, 1, 1, 1, ACTIVATION_SILU, FILL_NORMAL},
    {1, 1, 1, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 1, 1, 17, ACTIVATION_NONE, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_RELU, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_SILU, FILL_NORMAL},
    {2, 3, 5, 7, ACTIVATION_GELU, FILL_NORMAL},
    {1, 16, 16, 70, ACTIVATION_SILU, FILL_NORMAL},
    {1, 16, 16, 70, ACTIVATION_GELU, FILL_NORMAL},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_LARGE},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_LARGE},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_WIDE},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_WIDE},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_SMALL},
    {1, 8, 8, 33, ACTIVATION_GELU, FILL_SMALL},
    {1, 8, 8, 33, ACTIVATION_SILU, FILL_ZERO_ROWS},
    {2, 3, 5, 7, ACTIVATION_LEAKY_RELU, FILL_NORMAL},
    {1, 8, 8, 64, ACTIVATION_LEAKY_RELU, FILL_LARGE},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 64, 64, 512, ACTIVATION_SILU, FILL_NORMAL},
    {4, 1, 197, 3072, ACTIVATION_GELU, FILL_NORMAL},
    {8, 1, 1, 1024, ACTIVATION_RELU, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 12, 100);
    p[KIND] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
}

static void run(struct check *c, const int64_t *p)
{
    enum activation_kind kind = (enum activation_kind)p[KIND];
    struct operand *x = activations(c, "x", (enum fill)p[FILL], IMAGE(p));
    struct operand *dy = gradient_off_kinks(c, "dy", tensor_retain(on(x, truth(c))));
    struct operand *dx = gradient(c, "dx", x);
    c->magnitude = 1;
    work(c, 0, 3 * (double)dy->bytes);
    RUN(c, activation_backward, {on(x, side), on(dy, side), kind}, on(dy, side), on(dx, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_activation(in_double(x), differences_output(c), (int)kind);
}

const struct op_test test_activation_backward = {
    OP_TEST(activation_backward),
    .tolerance = 1e-6,
    .parameters = {"n", "h", "w", "c", "kind", "fill"},
};
