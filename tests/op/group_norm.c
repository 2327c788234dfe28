#include "tests/op/checker.h"

#include <math.h>

/* eps is 10^-EPS_EXPONENT. modulation: 0 none; 1 + b, its columns begin at b of rows that others
 * have columns of, too. */
enum { N, H, W, C, GROUPS, EPS_EXPONENT, AFFINE, MODULATION, ACT, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 5, 0, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 2, 2, 1, 1, 5, 1, 0, ACTIVATION_NONE, FILL_NORMAL},
    {2, 3, 5, 6, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL},
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
    p[N] = between(c, 1, 4);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[GROUPS] = coin(c) ? 1 : between(c, 1, 32);
    p[C] = p[GROUPS] * between(c, 1, p[GROUPS] == 1 ? 140 : 9);
    p[EPS_EXPONENT] = between(c, 5, 6);
    p[AFFINE] = coin(c);
    p[MODULATION] = coin(c) ? coin(c) : between(c, 2, 60);
    p[ACT] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", (enum fill)p[FILL], DIMS(p[N], p[H], p[W], p[C]));
    struct operand *gamma = p[AFFINE] ? parameter(c, "gamma", 1, 0.3, p[C]) : NULL;
    struct operand *beta = p[AFFINE] ? parameter(c, "beta", 0, 0.3, p[C]) : NULL;
    int64_t begin = p[MODULATION] ? p[MODULATION] - 1 : 0;
    struct operand *modulation =
        p[MODULATION] ? activations(c, "modulation", FILL_NORMAL, DIMS(p[N], 2 * p[C] + 2 * begin))
                      : NULL;
    struct operand *y = output(c, DIMS(p[N], p[H], p[W], p[C]));
    enum activation_kind act = (enum activation_kind)p[ACT];
    int groups = (int)p[GROUPS];
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]);
    if (p[FILL] == FILL_NEAR_CONSTANT)
        c->tolerance = 2e-5; /* five digits */
    work(c, 0, 2 * (double)y->bytes);
    RUN(c, group_norm, on(x, side), on(gamma, side), on(beta, side), on(modulation, side),
        on(y, side), groups, eps, act, begin);
    finish(c, group_norm(c->tape, on(x, DEVICE), groups, eps, on(gamma, DEVICE), on(beta, DEVICE),
                         on(modulation, DEVICE), begin, act));
    for (int64_t i = 0; i < p[N] && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(x, DEVICE), i, 1);
        struct tensor *its = modulation ? tensor_slice(on(modulation, DEVICE), i, 1) : NULL;
        finish_alone(c, y, i,
                     group_norm(c->tape, one, groups, eps, on(gamma, DEVICE), on(beta, DEVICE), its,
                                begin, act));
        tensor_release(one);
        tensor_release(its);
    }
}

const struct op_test test_group_norm = {
    .name = "group_norm",
    .tolerance = 2e-6,
    .parameters = {"n", "h", "w", "c", "groups", "eps_exponent", "affine", "modulation", "act",
                   "fill"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
