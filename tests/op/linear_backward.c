#include "tests/op/linear.h"

#include <math.h>

#include "tests/op/in_double.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {1, 1, 7, 5, 2, 2, 0, ACTIVATION_RELU, FILL_NORMAL, 3},
    {5, 1, 7, 5, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {5, 1, 7, 5, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 1},
    {5, 1, 7, 5, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 2},
    {5, 1, 7, 5, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 4},
    {1, 1, 640, 1024, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 6},
    {3, 1, 1024, 100, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {2, 5, 33, 65, 3, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {1, 32769, 17, 3, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7}, /* partial sums of an odd size */
    {2, 17, 128, 384, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {1, 64, 256, 96, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {1, 64, 4, 64, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {2, 9, 20, 3, 3, 4, 0, ACTIVATION_NONE, FILL_LARGE, 3},
    {1, 13, 70, 70, 2, 2, 1, ACTIVATION_NONE, FILL_NEAR_CONSTANT, 7},
    {4, 197, 96, 130, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {64, 1, 200, 128, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {2, 1024, 24, 40, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {2, 10, 24, 40, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
    {2, 10, 24, 40, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL, 23},
    {1, 3, 6, 5, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 23},
    {2, 17, 128, 384, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7 + FRESH + COMPACT},
    {3, 5, 24, 40, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 2 + FRESH + COMPACT},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 1, 1024, 1024, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 7}, /* U-Net 64, batch 8 */
    {8, 1, 1024, 512, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {8, 1024, 512, 256, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {8, 64, 512, 1536, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {64, 1, 1024, 128, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL, 3}, /* U-Net 16, batch 64 */
    {64, 1024, 128, 64, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {4, 197, 768, 3072, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7}, /* CLOOB ViT-B/16 */
};

static void draw(struct check *c, int64_t *p)
{
    draw_linear(c, p, 300, ACTIVATION_RELU, FILL_WIDE);
    p[WANTED] = coin(c) ? 7 : between(c, 1, p[BIAS] ? 7 : 3);
    p[WANTED] |= (coin(c) ? FRESH : 0) | (coin(c) ? 16 : 0) | (coin(c) ? COMPACT : 0);
}

static struct tensor *forward(struct check *c, const struct linear_operands *o,
                              enum activation_kind act)
{
    return linear(truth_tape(c), on(o->x, truth(c)), on(o->weight, truth(c)), on(o->bias, truth(c)),
                  act);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    /* Compact gradients must stay within F16's range. */
    int64_t compact = c->dtype != DTYPE_F16 || fill == FILL_NORMAL ? COMPACT : 0;
    enum activation_kind act = (enum activation_kind)p[ACT];
    int64_t rows = p[N] * p[S];
    struct linear_operands o = linear_operands(c, p);
    struct operand *dy = gradient_off_kinks(c, "dy", forward(c, &o, ACTIVATION_NONE));
    struct operand *y = dy; /* for its shape */
    if (act == ACTIVATION_RELU)
        y = computed(c, "y", forward(c, &o, act));
    bool adds = p[WANTED] & 16 && device_fuses(c->device[DEVICE]);
    struct operand *dx = p[WANTED] & 1 ? gradient_of_input(c, o.x, adds) : NULL;
    struct operand *dw = gradient_of_weight(c, "dweight", o.weight, p[WANTED] & (15 | compact));
    struct operand *db = gradient_of_vector(c, "dbias", o.bias, p[WANTED]);
    if (dx)
        dx->magnitude = hypot(0.3 * sqrt((double)p[OUT] / (double)p[IN]), adds);
    if (dw)
        dw->magnitude = 0.3 * fill_magnitude(c, fill) * sqrt((double)rows);
    if (db)
        db->magnitude = 0.3 * sqrt((double)rows);
    work(c, 2.0 * (double)(!!dx + !!dw) * (double)rows * (double)(p[IN] * p[OUT]),
         (double)dy->bytes);
    RUN(c, linear_backward,
        {on(o.x, side), on(o.weight, side), on(o.bias, side), on(y, side), act, NULL}, on(dy, side),
        on(dx, side), on(dw, side), on(db, side), p[WANTED] & FRESH, p[WANTED] & FRESH, adds);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_linear(in_double(o.x), in_double(o.weight), in_double(o.bias), differences_output(c),
                      act);
}

const struct op_test test_linear_backward = {
    OP_TEST(linear_backward),
    .tolerance = 1e-5,
    .library = true,
    .parameters = {LINEAR_PARAMETERS, "wanted"},
};
