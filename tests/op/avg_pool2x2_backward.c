#include "tests/op/checker.h"
#include "tests/op/in_double.h"

/* adds: whether dx is added to, when the device can. */
enum { N, H, W, C, ADDS };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 2, 2, 1},   {1, 2, 4, 3},   {2, 6, 4, 7},    {1, 8, 8, 64},
    {2, 16, 8, 66}, {3, 2, 10, 33}, {2, 6, 4, 7, 1}, {1, 8, 8, 64, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 256},
    {8, 8, 8, 512},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 6, 70);
    p[H] *= 2;
    p[W] *= 2;
    p[ADDS] = coin(c);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[H] / 2, p[W] / 2, p[C]));
    bool adds = p[ADDS] && device_fuses(c->device[DEVICE]);
    struct operand *dx = gradient_of_input(c, x, adds);
    work(c, 0, (double)(dx->bytes + dy->bytes));
    RUN(c, avg_pool2x2_backward, on(dy, side), on(dx, side), adds);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_avg_pool2x2(in_double(x), differences_output(c));
}

const struct op_test test_avg_pool2x2_backward = {
    OP_TEST(avg_pool2x2_backward),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c", "adds"},
};
