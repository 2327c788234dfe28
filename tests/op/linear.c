#include "tests/op/linear.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1, 7, 5, 2, 2, 0, ACTIVATION_RELU, FILL_NORMAL},
    {5, 1, 7, 5, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 1},
    {2, 40, 33, 65, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 1},
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
    p[RESIDUAL] = coin(c);
}

static struct tensor *public_op(struct check *c, const struct linear_operands *o, struct tensor *x,
                                enum activation_kind act, struct tensor *residual)
{
    struct tensor *w = on(o->weight, DEVICE), *b = on(o->bias, DEVICE);
    return residual ? linear_add(c->tape, residual, x, w, b) : linear(c->tape, x, w, b, act);
}

static void run(struct check *c, const int64_t *p)
{
    struct linear_operands o = linear_operands(c, p);
    const int64_t *shape =
        p[DIMENSIONS] == 2 ? (int64_t[]){p[N] * p[S], p[OUT]} : (int64_t[]){p[N], p[S], p[OUT]};
    bool adds = p[RESIDUAL] && device_fuses(c->device[DEVICE]);
    struct operand *residual =
        adds ? activations(c, "residual", FILL_NORMAL, (int)p[DIMENSIONS], shape) : NULL;
    struct operand *y = output(c, (int)p[DIMENSIONS], shape);
    enum activation_kind act = adds ? ACTIVATION_NONE : (enum activation_kind)p[ACT];
    c->magnitude = fill_magnitude(c, (enum fill)p[FILL]);
    work(c, 2.0 * (double)(p[N] * p[S]) * (double)(p[IN] * p[OUT]), 0);
    RUN(c, linear, on(o.x, side), on(o.weight, side), on(o.bias, side), on(y, side), act,
        on(residual, side));
    finish(c, public_op(c, &o, on(o.x, DEVICE), act, on(residual, DEVICE)));
    int64_t slices = on(o.x, DEVICE)->shape[0];
    for (int64_t i = 0; i < slices && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(o.x, DEVICE), i, 1);
        struct tensor *added = adds ? tensor_slice(on(residual, DEVICE), i, 1) : NULL;
        finish_alone(c, y, i, public_op(c, &o, one, act, added));
        tensor_release(added);
        tensor_release(one);
    }
}

const struct op_test test_linear = {
    OP_TEST(linear),       .tolerance = 3e-6,
    .library = true,       .roundings = 1, /* of the bias */
    .weight_dtypes = true, .parameters = {LINEAR_PARAMETERS, "residual"},
};
