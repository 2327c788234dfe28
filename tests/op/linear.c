#include "tests/op/linear.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1, 7, 5, 2, 2, 0, ACTIVATION_RELU, FILL_NORMAL},
    {1, 1, 640, 1024, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL},
    {3, 1, 1024, 100, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL},
    {2, 5, 33, 65, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {2, 17, 128, 384, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 197, 192, 257, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 64, 256, 96, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 64, 4, 64, 3, 4, 1, ACTIVATION_SILU, FILL_NORMAL},
    {2, 9, 20, 3, 3, 4, 0, ACTIVATION_NONE, FILL_LARGE},
    {1, 13, 70, 70, 2, 2, 1, ACTIVATION_NONE, FILL_NEAR_CONSTANT},
    {4, 77, 128, 64, 3, 2, 1, ACTIVATION_SILU, FILL_NORMAL},
    {2, 197, 768, 500, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 4, 3072, 768, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 768, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL}, /* CLOOB ViT-B/16 */
    {4, 197, 768, 3072, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {4, 197, 3072, 768, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1, 1024, 3072, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL}, /* U-Net modulation */
    {4, 1, 1024, 3072, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 256, 768, 2304, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL}, /* U-Net qkv and skip */
    {1, 1024, 1536, 768, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1024, 512, 512, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL}, /* KL-f8 attention */
};

static void draw(struct check *c, int64_t *p)
{
    draw_linear(c, p, 400, ACTIVATION_LEAKY_RELU, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct linear_operands o = linear_operands(c, p);
    struct operand *y = p[DIMENSIONS] == 2 ? output(c, DIMS(p[N] * p[S], p[OUT]))
                                           : output(c, DIMS(p[N], p[S], p[OUT]));
    enum activation_kind act = (enum activation_kind)p[ACT];
    struct tensor *w = on(o.weight, DEVICE), *b = on(o.bias, DEVICE);
    c->magnitude = fill_magnitude(c, (enum fill)p[FILL]);
    work(c, 2.0 * (double)(p[N] * p[S]) * (double)(p[IN] * p[OUT]), 0);
    RUN(c, linear, on(o.x, side), on(o.weight, side), on(o.bias, side), on(y, side), act);
    finish(c, linear(c->tape, on(o.x, DEVICE), w, b, act));
    int64_t slices = on(o.x, DEVICE)->shape[0];
    for (int64_t i = 0; i < slices && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(o.x, DEVICE), i, 1);
        finish_alone(c, y, i, linear(c->tape, one, w, b, act));
        tensor_release(one);
    }
}

const struct op_test test_linear = {
    OP_TEST(linear),       .tolerance = 3e-6,
    .library = true,       .roundings = 1, /* of the bias */
    .weight_dtypes = true, .parameters = {LINEAR_PARAMETERS},
};
