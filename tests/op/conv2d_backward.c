#include "tests/op/conv2d.h"

#include <math.h>

#include "tests/op/in_double.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 1, 1, 0, 0, 1, FILL_NORMAL, 7},
    {1, 1, 1, 1, 1, 3, 1, 1, 1, 0, FILL_NORMAL, 3},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 1},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 2},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 10},
    {1, 8, 8, 32, 48, 3, 1, 1, 1, 1, FILL_NORMAL, 15},
    {1, 8, 8, 32, 48, 3, 1, 1, 1, 1, FILL_NORMAL, 23},
    {3, 4, 4, 16, 24, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {2, 4, 5, 24, 9, 3, 1, 1, 1, 1, FILL_NORMAL, 23},
    {1, 6, 6, 40, 24, 1, 1, 0, 0, 1, FILL_NORMAL, 23},
    {1, 6, 6, 40, 24, 1, 1, 0, 0, 1, FILL_NORMAL, 15},
    {2, 3, 5, 3, 7, 3, 1, 1, 1, 1, FILL_NORMAL, 4},
    {1, 8, 8, 20, 64, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {1, 8, 8, 128, 4, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {3, 4, 4, 64, 64, 3, 1, 1, 1, 0, FILL_NORMAL, 3},
    {1, 9, 7, 33, 31, 3, 1, 1, 1, 1, FILL_NEAR_CONSTANT, 7},
    {1, 8, 12, 16, 24, 3, 1, 1, 1, 1, FILL_LARGE, 7},
    {1, 1, 17, 20, 20, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {1, 17, 1, 20, 20, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {2, 8, 8, 16, 16, 3, 2, 0, 1, 1, FILL_NORMAL, 7},
    {1, 10, 6, 32, 40, 3, 2, 0, 1, 1, FILL_NORMAL, 7},
    {1, 7, 9, 12, 20, 3, 2, 1, 1, 1, FILL_NORMAL, 7},
    {1, 32, 48, 3, 32, 16, 16, 0, 0, 0, FILL_NORMAL, 3},
    {2, 9, 10, 5, 17, 4, 4, 0, 0, 1, FILL_NORMAL, 7},
    {1, 6, 6, 40, 24, 1, 1, 0, 0, 1, FILL_NORMAL, 7},
    {1, 6, 7, 8, 8, 1, 2, 0, 0, 0, FILL_NORMAL, 3},
    {1, 5, 6, 8, 9, 2, 1, 1, 0, 1, FILL_NORMAL, 7},
    {1, 6, 7, 10, 11, 5, 1, 2, 2, 1, FILL_NORMAL, 7},
    {1, 5, 5, 6, 7, 3, 1, 0, 0, 1, FILL_NORMAL, 7},
    {1, 6, 5, 6, 7, 3, 1, 2, 1, 1, FILL_NORMAL, 7},
    {2, 12, 11, 8, 58, 3, 1, 1, 2, 1, FILL_NORMAL, 7},
    {1, 17, 20, 9, 50, 3, 1, 1, 0, 1, FILL_NORMAL, 7},
    {1, 16, 15, 9, 39, 3, 3, 1, 1, 1, FILL_NORMAL, 7},
    {1, 13, 12, 18, 38, 3, 2, 1, 2, 1, FILL_NORMAL, 7},
    {3, 11, 16, 4, 56, 3, 2, 1, 1, 1, FILL_NORMAL, 7},
    {1, 32, 32, 20, 36, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {4, 16, 16, 66, 34, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {9, 4, 4, 128, 130, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {1, 33, 34, 32, 32, 3, 2, 0, 1, 1, FILL_NORMAL, 7},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 20, 256, 3, 1, 1, 1, 1, FILL_NORMAL, 6}, /* U-Net 64, batch 8 */
    {8, 32, 32, 256, 256, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {8, 16, 16, 256, 256, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {8, 8, 8, 512, 512, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {8, 4, 4, 512, 512, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {64, 32, 32, 64, 64, 3, 1, 1, 1, 1, FILL_NORMAL, 7}, /* U-Net 16, batch 64 */
    {64, 4, 4, 128, 128, 3, 1, 1, 1, 1, FILL_NORMAL, 7},
    {1, 64, 64, 128, 128, 3, 2, 0, 1, 1, FILL_NORMAL, 7},   /* KL-f8, smaller */
    {4, 224, 224, 3, 768, 16, 16, 0, 0, 0, FILL_NORMAL, 2}, /* CLOOB ViT-B/16 */
};

static void draw(struct check *c, int64_t *p)
{
    draw_conv2d(c, p, 60);
    p[WANTED] = coin(c) ? 7 : between(c, 1, p[BIAS] ? 7 : 3);
    p[WANTED] |= (coin(c) ? FRESH : 0) | (coin(c) ? 16 : 0) | (coin(c) ? COMPACT : 0);
}

static void run(struct check *c, const int64_t *p)
{
    /* A library's sums of weight gradients must stay within F16's range. */
    enum fill fill = c->dtype == DTYPE_F16 ? FILL_NORMAL : (enum fill)p[FILL];
    struct conv2d_operands o = conv2d_operands(c, p, fill);
    int64_t outputs = p[N] * o.h * o.w;
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], o.h, o.w, p[CO]));
    bool adds = p[WANTED] & 16 && device_fuses(c->device[DEVICE]);
    struct operand *dx = p[WANTED] & 1 ? gradient_of_input(c, o.x, adds) : NULL;
    struct operand *dw = gradient_of_weight(c, "dweight", o.weight, p[WANTED]);
    struct operand *db = gradient_of_vector(c, "dbias", o.bias, p[WANTED]);
    if (dx)
        dx->magnitude = hypot(0.3 * sqrt((double)p[CO] / (double)p[CI]) / o.stride, adds);
    if (dw)
        dw->magnitude = 0.3 * fill_magnitude(c, fill) * sqrt((double)outputs);
    if (db)
        db->magnitude = 0.3 * sqrt((double)outputs);
    work(c, 2.0 * (double)(!!dx + !!dw) * (double)outputs * (double)(p[CO] * p[CI] * p[K] * p[K]),
         (double)dy->bytes);
    RUN(c, conv2d_backward,
        {on(o.x, side), on(o.weight, side), on(o.bias, side), on(dy, side), o.stride, o.begin,
         o.end, NULL},
        on(dy, side), on(dx, side), on(dw, side), on(db, side), p[WANTED] & FRESH,
        p[WANTED] & FRESH, adds);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_conv2d(in_double(o.x), in_double(o.weight), in_double(o.bias), differences_output(c),
                      o.stride, o.begin, o.end);
}

const struct op_test test_conv2d_backward = {
    OP_TEST(conv2d_backward),
    .tolerance = 1e-5,
    .library = true,
    .rounds_kernels = true,
    .roundings = 1, /* of sums of weight gradients, before they are added */
    .parameters = {CONV2D_PARAMETERS, "wanted"},
};
