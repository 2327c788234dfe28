#include "tests/op/group_norm.h"

#include "tests/op/in_double.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 5, 0, 0, ACTIVATION_NONE, FILL_NORMAL, 15},
    {1, 2, 2, 1, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL, 15},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 1},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 8},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 1},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 2},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 4},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_RELU, FILL_NORMAL, 31},
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 3, 6, 0, 0, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 3, 6, 1, 1, ACTIVATION_SILU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 2, 6, 1, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {1, 8, 8, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {1, 8, 8, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 47},
    {2, 16, 16, 320, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 47},
    {2, 16, 16, 320, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 79},
    {3, 24, 24, 72, 4, 5, 1, 1, ACTIVATION_SILU, FILL_NORMAL, 95},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 95},
    {3, 4, 4, 100, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL, 15},
    {2, 8, 8, 64, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 15},
    {1, 9, 7, 96, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 15},
    {1, 8, 8, 64, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NEAR_CONSTANT, 15},
    {1, 16, 16, 32, 32, 6, 1, 0, ACTIVATION_NONE, FILL_NEAR_CONSTANT, 15},
    {2, 8, 8, 48, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NEAR_CONSTANT, 15},
    {1, 8, 8, 128, 32, 6, 1, 0, ACTIVATION_NONE, FILL_SMALL, 15},
    {1, 8, 8, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_SMALL, 15},
    {1, 5, 5, 48, 4, 5, 1, 1, ACTIVATION_GELU, FILL_LARGE, 15},
    {1, 32, 32, 96, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {1, 6, 6, 37, 37, 6, 1, 1, ACTIVATION_NONE, FILL_ZERO_ROWS, 15},
    {2, 3, 5, 6, 1, 5, 0, 13, ACTIVATION_RELU, FILL_NORMAL, 15},
    {3, 8, 8, 64, 1, 5, 0, 129, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 4, 4, 24, 2, 6, 1, 8, ACTIVATION_SILU, FILL_NORMAL, 15},
    {1, 24, 8, 64, 64, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL, 15}, /* batch_norm */
    {1, 24, 7, 37, 37, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL, 15},
    {1, 64, 16, 16, 16, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NEAR_CONSTANT, 15},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 256, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15}, /* U-Net 64, batch 8 */
    {8, 8, 8, 512, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {8, 8, 8, 512, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL, 15},
    {64, 32, 32, 64, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},    /* U-Net 16, batch 64 */
    {1, 128, 128, 128, 32, 6, 1, 0, ACTIVATION_SILU, FILL_NORMAL, 15}, /* KL-f8, smaller */
    {1, 256, 64, 128, 128, 5, 1, 0, ACTIVATION_LEAKY_RELU, FILL_NORMAL, 15}, /* batch_norm of 4 */
};

static void draw(struct check *c, int64_t *p)
{
    draw_group_norm(c, p, 12, 100, 5, FILL_WIDE);
    p[WANTED] = coin(c) ? 15 : 1 + 14 * coin(c);
    p[WANTED] |= (coin(c) ? 16 : 0) | (coin(c) ? 32 : 0) | (coin(c) ? 64 : 0);
}

static struct tensor *forward(struct check *c, const struct group_norm_operands *o,
                              enum activation_kind act)
{
    enum side side = truth(c);
    return group_norm(truth_tape(c), on(o->x, side), o->groups, o->eps, on(o->gamma, side),
                      on(o->beta, side), on(o->modulation, side), o->begin, act);
}

/* They nearly cancel, so that only their own magnitude counts. */
static struct operand *sums_of_dx(struct check *c, int64_t channels, bool fresh)
{
    return fresh ? output_typed(c, "dx_sums", DTYPE_F32, DIMS(channels))
                 : updated(c, "dx_sums", 0, 1, channels);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct group_norm_operands o = group_norm_operands(c, p);
    struct operand *dy = gradient_off_kinks(c, "dy", forward(c, &o, ACTIVATION_NONE));
    struct operand *y = computed(c, "y", forward(c, &o, o.act));
    bool adds = p[WANTED] & 32 && device_fuses(c->device[DEVICE]);
    struct operand *dx = p[WANTED] & 1 ? gradient_of_input(c, o.x, adds) : NULL;
    bool fresh = p[WANTED] & 16;
    int64_t vectors = fresh ? FRESH : 0;
    struct operand *dgamma =
        gradient_of_vector(c, "dgamma", o.gamma, (p[WANTED] & 2) * 2 | vectors);
    struct operand *dbeta = gradient_of_vector(c, "dbeta", o.beta, (p[WANTED] & 4) | vectors);
    struct operand *sums = dx && p[WANTED] & 64 && !adds && device_fuses(c->device[DEVICE])
                               ? sums_of_dx(c, p[C], fresh)
                               : NULL;
    struct operand *dmodulation =
        o.modulation && p[WANTED] & 8
            ? gradient_columns(c, "dmodulation", o.modulation, o.begin, 2 * p[C])
            : NULL;
    if (fill == FILL_NEAR_CONSTANT)
        c->tolerance = 1e-4;                       /* x has five digits beside its mean */
    bool single = p[H] * p[W] * p[C] == p[GROUPS]; /* one element has no deviation */
    if (dx)
        dx->magnitude = hypot(1 / hypot(single ? 0 : fill_deviation(c, fill), sqrt(o.eps)), adds);
    if (sums)
        /* dx is rounded before it is summed. */
        sums->magnitude =
            dx->magnitude * sqrt((double)(p[N] * p[H] * p[W])) * (c->dtype == DTYPE_F32 ? 1 : 256);
    if (dgamma)
        dgamma->magnitude = 0.3 * sqrt((double)(p[N] * p[H] * p[W]));
    if (dbeta)
        dbeta->magnitude = 0.3 * sqrt((double)(p[N] * p[H] * p[W]));
    if (dmodulation)
        dmodulation->magnitude = 0.3 * sqrt((double)(p[H] * p[W]));
    work(c, 0, (dx ? 3.0 : 2.0) * (double)dy->bytes);
    RUN(c, group_norm_backward,
        {on(o.x, side), on(o.gamma, side), on(o.beta, side), on(o.modulation, side), on(y, side),
         o.groups, o.eps, o.act, o.begin, NULL, NULL},
        on(dy, side), on(dx, side), on(dgamma, side), on(dbeta, side), on(dmodulation, side), fresh,
        adds, on(sums, side), fresh);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_group_norm(in_double(o.x), in_double(o.gamma), in_double(o.beta),
                          in_double(o.modulation), differences_output(c), o.groups, o.eps,
                          (int)o.act, o.begin);
}

const struct op_test test_group_norm_backward = {
    OP_TEST(group_norm_backward),
    .tolerance = 5e-6,
    .parameters = {GROUP_NORM_PARAMETERS, "wanted"},
};
