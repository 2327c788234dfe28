#include "tests/op/conv2d.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 1, 1, 0, 0, 1, FILL_NORMAL},
    {1, 1, 1, 1, 1, 3, 1, 1, 1, 0, FILL_NORMAL},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 1},
    {2, 8, 8, 16, 16, 3, 2, 0, 1, 0, FILL_NORMAL, 1},
    {1, 6, 6, 40, 24, 1, 1, 0, 0, 1, FILL_NORMAL, 1},
    {2, 8, 8, 5, 17, 4, 4, 0, 0, 1, FILL_NORMAL, 1},
    {1, 8, 8, 4, 128, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 8, 8, 128, 4, 3, 1, 1, 1, 1, FILL_NORMAL},
    {3, 4, 4, 64, 64, 3, 1, 1, 1, 0, FILL_NORMAL},
    {1, 9, 7, 33, 31, 3, 1, 1, 1, 1, FILL_NEAR_CONSTANT},
    {1, 8, 12, 16, 24, 3, 1, 1, 1, 1, FILL_LARGE},
    {1, 1, 17, 20, 20, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 17, 1, 20, 20, 3, 1, 1, 1, 1, FILL_NORMAL},
    {2, 8, 8, 16, 16, 3, 2, 0, 1, 1, FILL_NORMAL},
    {1, 10, 6, 32, 40, 3, 2, 0, 1, 1, FILL_NORMAL},
    {1, 7, 9, 12, 20, 3, 2, 1, 1, 1, FILL_NORMAL},
    {1, 64, 48, 3, 96, 16, 16, 0, 0, 0, FILL_NORMAL},
    {2, 8, 8, 5, 17, 4, 4, 0, 0, 1, FILL_NORMAL},
    {1, 6, 6, 40, 24, 1, 1, 0, 0, 1, FILL_NORMAL},
    {1, 6, 6, 8, 8, 1, 2, 0, 0, 0, FILL_NORMAL},
    {1, 5, 6, 8, 9, 2, 1, 1, 0, 1, FILL_NORMAL},
    {1, 6, 7, 10, 11, 5, 1, 2, 2, 1, FILL_NORMAL},
    {1, 5, 5, 6, 7, 3, 1, 0, 0, 1, FILL_NORMAL},
    {1, 32, 32, 96, 100, 3, 1, 1, 1, 1, FILL_NORMAL},
    {4, 16, 16, 130, 66, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 40, 24, 48, 160, 3, 1, 1, 1, 1, FILL_NORMAL},
    {2, 67, 45, 65, 97, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 64, 64, 128, 128, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 124, 121, 500, 8, 3, 1, 1, 1, 1, FILL_NORMAL}, /* more than a cache or 64 MB holds */
    {1, 65, 66, 32, 64, 3, 2, 0, 1, 1, FILL_NORMAL},
    {2, 112, 112, 3, 192, 16, 16, 0, 0, 0, FILL_NORMAL},
    {1, 4, 4, 512, 512, 3, 1, 1, 1, 0, FILL_NORMAL},
    {3, 4, 4, 16, 24, 3, 1, 1, 1, 1, FILL_NORMAL},
    {2, 4, 5, 24, 9, 3, 1, 1, 1, 1, FILL_NORMAL, 1},
    {2, 11, 13, 150, 83, 3, 1, 1, 1, 1, FILL_NORMAL}, /* the last block of channels is short */
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 32, 32, 768, 768, 3, 1, 1, 1, 1, FILL_NORMAL}, /* U-Net 192 */
    {1, 16, 16, 768, 768, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 8, 8, 1536, 1536, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 4, 4, 1536, 1536, 3, 1, 1, 1, 1, FILL_NORMAL},
    {4, 4, 4, 1536, 1536, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 256, 256, 128, 128, 3, 1, 1, 1, 1, FILL_NORMAL}, /* KL-f8 */
    {1, 128, 128, 256, 256, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 64, 64, 512, 512, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 256, 256, 128, 128, 3, 2, 0, 1, 1, FILL_NORMAL},
    {1, 256, 256, 3, 128, 3, 1, 1, 1, 1, FILL_NORMAL},
    {1, 256, 256, 128, 3, 3, 1, 1, 1, 1, FILL_NORMAL},
    {4, 224, 224, 3, 768, 16, 16, 0, 0, 0, FILL_NORMAL}, /* CLOOB ViT-B/16 */
};

static void draw(struct check *c, int64_t *p)
{
    draw_conv2d(c, p, 80);
    p[RESIDUAL] = coin(c);
}

static struct tensor *public_op(struct check *c, const struct conv2d_operands *o, struct tensor *x,
                                struct tensor *residual)
{
    struct tensor *w = on(o->weight, DEVICE), *b = on(o->bias, DEVICE);
    return residual ? conv2d_add(c->tape, residual, x, w, b, o->stride, o->begin, o->end)
                    : conv2d(c->tape, x, w, b, o->stride, o->begin, o->end);
}

static void run(struct check *c, const int64_t *p)
{
    struct conv2d_operands o = conv2d_operands(c, p, (enum fill)p[FILL]);
    bool adds = p[RESIDUAL] && device_fuses(c->device[DEVICE]);
    struct operand *residual =
        adds ? activations(c, "residual", FILL_NORMAL, DIMS(p[N], o.h, o.w, p[CO])) : NULL;
    struct operand *y = output(c, DIMS(p[N], o.h, o.w, p[CO]));
    c->magnitude = fill_magnitude(c, (enum fill)p[FILL]);
    work(c, 2.0 * (double)(p[N] * o.h * o.w) * (double)(p[CO] * p[CI] * p[K] * p[K]), 0);
    RUN(c, conv2d, on(o.x, side), on(o.weight, side), on(o.bias, side), on(y, side), o.stride,
        o.begin, o.end, on(residual, side));
    finish(c, public_op(c, &o, on(o.x, DEVICE), on(residual, DEVICE)));
    for (int64_t i = 0; i < p[N] && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(o.x, DEVICE), i, 1);
        struct tensor *added = adds ? tensor_slice(on(residual, DEVICE), i, 1) : NULL;
        finish_alone(c, y, i, public_op(c, &o, one, added));
        tensor_release(added);
        tensor_release(one);
    }
}

const struct op_test test_conv2d = {
    OP_TEST(conv2d),       .tolerance = 3e-6,
    .library = true,       .roundings = 1, /* of the bias */
    .weight_dtypes = true, .parameters = {CONV2D_PARAMETERS, "residual"},
};
