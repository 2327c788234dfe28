#include "tests/op/checker.h"

#include <math.h>

#include "tests/op/in_double.h"

/* eps is 10^-EPS_EXPONENT. modulation: 0 none; 1 + b, its columns begin at b of rows that others
 * have columns of, too. wanted: sum of 1 for dx, 2 for dgamma, 4 for dbeta, 8 for dmodulation. */
enum { N, H, W, C, GROUPS, EPS_EXPONENT, AFFINE, MODULATION, ACT, FILL, WANTED };

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
    {2, 3, 5, 6, 3, 6, 1, 0, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 3, 6, 0, 0, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 3, 6, 1, 1, ACTIVATION_SILU, FILL_NORMAL, 15},
    {2, 3, 5, 6, 2, 6, 1, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {1, 8, 8, 128, 1, 5, 0, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
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
    p[N] = between(c, 1, 4);
    p[H] = between(c, 1, 12);
    p[W] = between(c, 1, 12);
    p[GROUPS] = coin(c) ? 1 : between(c, 1, 32);
    p[C] = p[GROUPS] * between(c, 1, p[GROUPS] == 1 ? 100 : 5);
    p[EPS_EXPONENT] = between(c, 5, 6);
    p[AFFINE] = coin(c);
    p[MODULATION] = coin(c) ? coin(c) : between(c, 2, 60);
    p[ACT] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[WANTED] = coin(c) ? 15 : 1 + 14 * coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    enum activation_kind act = (enum activation_kind)p[ACT];
    int groups = (int)p[GROUPS];
    float eps = (float)pow(10, -(double)p[EPS_EXPONENT]);
    struct operand *x = activations(c, "x", fill, DIMS(p[N], p[H], p[W], p[C]));
    struct operand *gamma = p[AFFINE] ? parameter(c, "gamma", 1, 0.3, p[C]) : NULL;
    struct operand *beta = p[AFFINE] ? parameter(c, "beta", 0, 0.3, p[C]) : NULL;
    int64_t begin = p[MODULATION] ? p[MODULATION] - 1 : 0;
    struct operand *modulation =
        p[MODULATION] ? activations(c, "modulation", FILL_NORMAL, DIMS(p[N], 2 * p[C] + 2 * begin))
                      : NULL;
    struct operand *dy = gradient_off_kinks(
        c, "dy",
        group_norm(truth_tape(c), on(x, truth(c)), groups, eps, on(gamma, truth(c)),
                   on(beta, truth(c)), on(modulation, truth(c)), begin, ACTIVATION_NONE));
    struct operand *y =
        computed(c, "y",
                 group_norm(truth_tape(c), on(x, truth(c)), groups, eps, on(gamma, truth(c)),
                            on(beta, truth(c)), on(modulation, truth(c)), begin, act));
    struct operand *dx = p[WANTED] & 1 ? gradient(c, "dx", x) : NULL;
    struct operand *dgamma = gamma && p[WANTED] & 2 ? gradient_sum(c, "dgamma", gamma) : NULL;
    struct operand *dbeta = beta && p[WANTED] & 4 ? gradient_sum(c, "dbeta", beta) : NULL;
    struct operand *dmodulation =
        modulation && p[WANTED] & 8
            ? gradient_columns(c, "dmodulation", modulation, begin, 2 * p[C])
            : NULL;
    if (fill == FILL_NEAR_CONSTANT)
        c->tolerance = 1e-4;                       /* x has five digits beside its mean */
    bool single = p[H] * p[W] * p[C] == p[GROUPS]; /* one element has no deviation */
    if (dx)
        dx->magnitude = 1 / hypot(single ? 0 : fill_deviation(c, fill), sqrt(eps));
    if (dgamma)
        dgamma->magnitude = 0.3 * sqrt((double)(p[N] * p[H] * p[W]));
    if (dbeta)
        dbeta->magnitude = 0.3 * sqrt((double)(p[N] * p[H] * p[W]));
    if (dmodulation)
        dmodulation->magnitude = 0.3 * sqrt((double)(p[H] * p[W]));
    work(c, 0, (dx ? 3.0 : 2.0) * (double)dy->bytes);
    RUN(c, group_norm_backward,
        {on(x, side), on(gamma, side), on(beta, side), on(modulation, side), on(y, side), groups,
         eps, act, begin},
        on(dy, side), on(dx, side), on(dgamma, side), on(dbeta, side), on(dmodulation, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_group_norm(in_double(x), in_double(gamma), in_double(beta), in_double(modulation),
                          differences_output(c), groups, eps, (int)act, begin);
}

const struct op_test test_group_norm_backward = {
    .name = "group_norm_backward",
    .tolerance = 5e-6,
    .parameters = {"n", "h", "w", "c", "groups", "eps_exponent", "affine", "modulation", "act",
                   "fill", "wanted"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
