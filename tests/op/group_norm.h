#ifndef CCLD_TESTS_OP_GROUP_NORM_H
#define CCLD_TESTS_OP_GROUP_NORM_H

#include <math.h>

#include "tests/op/checker.h"

/* What the tests of group_norm and group_norm_backward share. eps is 10^-EPS_EXPONENT.
 * modulation: 0 for none; 1 + b if its columns begin at column b of rows that other norms share.
 * wanted: sum of 1 for dx, 2 for dgamma, 4 for dbeta, 8 for dmodulation, 16 if those of
 * gamma and beta are fresh, 32 if dx is added to, 64 if
 * it is summed. residual: 1 if the device adds one, when it can.
 */
enum { N, H, W, C, GROUPS, EPS_EXPONENT, AFFINE, MODULATION, ACT, FILL, WANTED, RESIDUAL = WANTED };
#define GROUP_NORM_PARAMETERS                                                                      \
    "n", "h", "w", "c", "groups", "eps_exponent", "affine", "modulation", "act", "fill"

struct group_norm_operands {
    struct operand *x, *gamma, *beta, *modulation;
    int groups;
    float eps;
    enum activation_kind act;
    int64_t begin; /* of the columns of modulation that are used */
};

static inline void draw_group_norm(struct check *c, int64_t *p, int64_t max_side,
                                   int64_t max_c_of_one, int64_t max_c, enum fill last_fill)
{
    p[N] = between(c, 1, 4);
    p[H] = between(c, 1, max_side);
    p[W] = between(c, 1, max_side);
    p[GROUPS] = coin(c) ? 1 : between(c, 1, 32);
    p[C] = p[GROUPS] * between(c, 1, p[GROUPS] == 1 ? max_c_of_one : max_c);
    p[EPS_EXPONENT] = between(c, 5, 6);
    p[AFFINE] = coin(c);
    p[MODULATION] = coin(c) ? coin(c) : between(c, 2, 60);
    p[ACT] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, last_fill);
}

static inline struct group_norm_operands group_norm_operands(struct check *c, const int64_t *p)
{
    struct group_norm_operands o = {
        .groups = (int)p[GROUPS],
        .eps = (float)pow(10, -(double)p[EPS_EXPONENT]),
        .act = (enum activation_kind)p[ACT],
        .begin = p[MODULATION] ? p[MODULATION] - 1 : 0,
    };
    o.x = activations(c, "x", (enum fill)p[FILL], IMAGE(p));
    o.gamma = p[AFFINE] ? parameter(c, "gamma", 1, 0.3, p[C]) : NULL;
    o.beta = p[AFFINE] ? parameter(c, "beta", 0, 0.3, p[C]) : NULL;
    if (p[MODULATION])
        o.modulation =
            activations(c, "modulation", FILL_NORMAL, DIMS(p[N], 2 * p[C] + 2 * o.begin));
    return o;
}

#endif
