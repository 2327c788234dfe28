#ifndef CCLD_TESTS_OP_LINEAR_H
#define CCLD_TESTS_OP_LINEAR_H

#include "tests/op/checker.h"

/* What the tests of linear and linear_backward share. dims: 2 for x [n*s, k], 3 for [n, s, k];
 * wdims: 2 for weight [o, k], 4 for [o, k, 1, 1]. wanted: sum of 1 for dx, 2 for dweight, 4 for
 * dbias, 8 if dweight and dbias are fresh, 16 if dx is added to, when the device can. residual: 1
 * if the device adds one without activation, when it can. */
enum { N, S, IN, OUT, DIMENSIONS, WEIGHT_DIMENSIONS, BIAS, ACT, FILL, WANTED, RESIDUAL = WANTED };
#define LINEAR_PARAMETERS "n", "s", "in", "out", "dims", "wdims", "bias", "act", "fill"

struct linear_operands {
    struct operand *x, *weight, *bias;
};

static inline void draw_linear(struct check *c, int64_t *p, int64_t max_width,
                               enum activation_kind last_act, enum fill last_fill)
{
    p[N] = between(c, 1, 4);
    p[S] = coin(c) ? 1 : between(c, 1, 70);
    p[IN] = between(c, 1, coin(c) ? 40 : max_width);
    p[OUT] = between(c, 1, coin(c) ? 40 : max_width);
    p[DIMENSIONS] = between(c, 2, 3);
    p[WEIGHT_DIMENSIONS] = coin(c) ? 2 : 4;
    p[BIAS] = coin(c);
    p[ACT] = between(c, ACTIVATION_NONE, last_act);
    p[FILL] = between(c, FILL_NORMAL, last_fill);
}

static inline struct linear_operands linear_operands(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct linear_operands o;
    o.x = p[DIMENSIONS] == 2 ? activations(c, "x", fill, DIMS(p[N] * p[S], p[IN]))
                             : activations(c, "x", fill, DIMS(p[N], p[S], p[IN]));
    o.weight =
        weight(c, "weight", (int)p[WEIGHT_DIMENSIONS], (const int64_t[]){p[OUT], p[IN], 1, 1});
    o.bias = p[BIAS] ? parameter(c, "bias", 0, 0.5, p[OUT]) : NULL;
    return o;
}

#endif
