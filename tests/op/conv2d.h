#ifndef CCLD_TESTS_OP_CONV2D_H
#define CCLD_TESTS_OP_CONV2D_H

#include "tests/op/checker.h"

/* What the tests of conv2d and conv2d_backward share. wanted: sum of 1 for dx, 2 for dweight, 4 for
 * dbias, 8 if dweight and dbias are fresh, 16 if dx is added to, when the device can. */
enum { N, H, W, CI, CO, K, STRIDE, PAD_BEGIN, PAD_END, BIAS, FILL, WANTED, RESIDUAL = WANTED };
#define CONV2D_PARAMETERS                                                                          \
    "n", "h", "w", "ci", "co", "k", "stride", "pad_begin", "pad_end", "bias", "fill"

struct conv2d_operands {
    struct operand *x, *weight, *bias;
    int64_t h, w; /* of the output */
    int stride, begin, end;
};

static inline void draw_conv2d(struct check *c, int64_t *p, int64_t max_channels)
{
    p[N] = between(c, 1, 3);
    p[K] = between(c, 1, 4);
    p[K] = coin(c) ? 3 : p[K];
    p[H] = between(c, p[K], 20);
    p[W] = between(c, p[K], 20);
    p[CI] = between(c, 1, coin(c) ? 9 : max_channels);
    p[CO] = between(c, 1, coin(c) ? 9 : max_channels);
    p[STRIDE] = coin(c) ? 1 : between(c, 1, 4);
    p[PAD_BEGIN] = coin(c) ? p[K] / 2 : between(c, 0, p[K] - 1);
    p[PAD_END] = coin(c) ? p[K] / 2 : between(c, 0, p[K] - 1);
    p[BIAS] = coin(c);
    p[FILL] = between(c, FILL_NORMAL, FILL_LARGE);
}

static inline struct conv2d_operands conv2d_operands(struct check *c, const int64_t *p,
                                                     enum fill fill)
{
    int64_t pad = p[PAD_BEGIN] + p[PAD_END];
    struct conv2d_operands o = {
        .h = (p[H] + pad - p[K]) / p[STRIDE] + 1,
        .w = (p[W] + pad - p[K]) / p[STRIDE] + 1,
        .stride = (int)p[STRIDE],
        .begin = (int)p[PAD_BEGIN],
        .end = (int)p[PAD_END],
    };
    o.x = activations(c, "x", fill, DIMS(p[N], p[H], p[W], p[CI]));
    o.weight = weight(c, "weight", DIMS(p[CO], p[CI], p[K], p[K]));
    o.bias = p[BIAS] ? parameter(c, "bias", 0, 0.5, p[CO]) : NULL;
    if (p[K] == 3 && o.stride == 1)
        c->tolerance = 3e-5; /* Winograd's F(4x4, 3x3) is allowed, */
    if (p[K] == 3 && p[STRIDE] == 1 && c->dtype == DTYPE_BF16 && c->device[DEVICE]->host_memory)
        c->tolerance = 1e-3; /* or F(2x2, 3x3) with both sides rounded again */
    return o;
}

#endif
