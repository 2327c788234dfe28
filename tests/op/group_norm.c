#include "tests/op/group_norm.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 5, 0, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 2, 2, 1, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 1},
    {2, 32, 32, 192, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 1},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL},
    {1, 8, 8, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL},
    {3, 4, 4, 100, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL},
    {2, 16, 16, 64, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL},
    {1, 9, 7, 96, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL},
    {1, 16, 16, 128, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NEAR_CONSTANT},
    {1, 64, 64, 32, 32, 6, 1, 0, ACTIVATION_NONE, FILL_NEAR_CONSTANT},
    {2, 8, 8, 192, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NEAR_CONSTANT},
    {1, 16, 16, 128, 32, 6, 1, 0, ACTIVATION_NONE, FILL_SMALL},
    {1, 16, 16, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_SMALL},
    {1, 5, 5, 48, 4, 5, 1, 1, ACTIVATION_GELU, FILL_LARGE},
    {1, 32, 32, 192, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL},
    {1, 6, 6, 37, 37, 6, 1, 1, ACTIVATION_NONE, FILL_ZERO_ROWS},
    {2, 3, 5, 6, 1, 5, 0, 13, ACTIVATION_RELU, FILL_NORMAL},
    {3, 8, 8, 64, 1, 5, 0, 129, ACTIVATION_RELU, FILL_NORMAL},
    {2, 4, 4, 24, 2, 6, 1, 8, ACTIVATION_SILU, FILL_NORMAL},
    {1, 24, 8, 64, 64, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL}, /* batch_norm */
    {1, 24, 7, 37, 37, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL},
    {1, 64, 16, 16, 16, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NEAR_CONSTANT},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 32, 32, 768, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL}, /* U-Net 192 */
    {4, 8, 8, 1536, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL},
    {1, 256, 256, 128, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL}, /* KL-f8 */
    {1, 64, 64, 512, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL},
    {1, 256, 64, 128, 128, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL}, /* batch_norm of 4 */
};

static void draw(struct check *c, int64_t *p)
{
    draw_group_norm(c, p, 20, 140, 9, FILL_ZERO_ROWS);
    p[RESIDUAL] = coin(c);
}

static struct tensor *public_op(struct check *c, const struct group_norm_operands *o,
                                struct tensor *x, struct tensor *modulation,
                                struct tensor *residual)
{
    if (residual)
        return group_norm_add(c->tape, residual, x, o->groups, o->eps, on(o->gamma, DEVICE),
                              on(o->beta, DEVICE), modulation, o->begin, o->act);
    return group_norm(c->tape, x, o->groups, o->eps, on(o->gamma, DEVICE), on(o->beta, DEVICE),
                      modulation, o->begin, o->act);
}

static void run(struct check *c, const int64_t *p)
{
    struct group_norm_operands o = group_norm_operands(c, p);
    bool adds = p[RESIDUAL] && device_fuses(c->device[DEVICE]);
    struct operand *residual = adds ? activations(c, "residual", FILL_NORMAL, IMAGE(p)) : NULL;
    struct operand *y = output(c, IMAGE(p));
    if (p[FILL] == FILL_NEAR_CONSTANT)
        c->tolerance = 2e-5; /* five digits */
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, group_norm, on(o.x, side), on(o.gamma, side), on(o.beta, side), on(o.modulation, side),
        on(y, side), o.groups, o.eps, o.act, o.begin, on(residual, side), NULL);
    finish(c, public_op(c, &o, on(o.x, DEVICE), on(o.modulation, DEVICE), on(residual, DEVICE)));
    for (int64_t i = 0; i < p[N] && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(o.x, DEVICE), i, 1);
        struct tensor *its = o.modulation ? tensor_slice(on(o.modulation, DEVICE), i, 1) : NULL;
        struct tensor *added = adds ? tensor_slice(on(residual, DEVICE), i, 1) : NULL;
        finish_alone(c, y, i, public_op(c, &o, one, its, added));
        tensor_release(added);
        tensor_release(one);
        tensor_release(its);
    }
}

const struct op_test test_group_norm = {
    OP_TEST(group_norm),
    .tolerance = 2e-6,
    .parameters = {GROUP_NORM_PARAMETERS, "residual"},
};
