#include "tests/op/checker.h"

#include <math.h>

#include "tests/op/in_double.h"

enum { N, H, W, C, FILL };

#define EPS 1e-10f

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, FILL_NORMAL},    {1, 2, 2, 3, FILL_NORMAL},     {2, 6, 4, 7, FILL_NORMAL},
    {2, 8, 8, 64, FILL_NORMAL},   {1, 8, 16, 128, FILL_NORMAL},  {3, 3, 11, 33, FILL_NORMAL},
    {2, 3, 5, 512, FILL_LARGE},   {2, 5, 5, 64, FILL_ZERO_ROWS}, {1, 9, 8, 24, FILL_SMALL},
    {2, 8, 9, 16, FILL_WIDE},     {1, 3, 3, 600, FILL_NORMAL},   {1, 4, 4, 8, FILL_NORMAL},
    {1, 10, 10, 32, FILL_NORMAL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 256, 256, 64, FILL_NORMAL}, /* LPIPS' first layer, its third */
    {4, 64, 64, 256, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[H] = between(c, 1, 10);
    p[W] = between(c, 1, 10);
    p[C] = between(c, 2, coin(c) ? 40 : 200);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct operand *a = activations(c, "a", fill, IMAGE(p));
    struct operand *b = activations(c, "b", fill, IMAGE(p));
    struct operand *weight_of_c = parameter(c, "weight", 0.5, 0.3, p[C]);
    struct operand *dy = outside(c, "dy", FILL_LARGE, DIMS(p[N]));
    struct operand *db = gradient(c, "db", b);
    double length = fill_magnitude(c, fill) * sqrt((double)p[C]);
    double of_dy = c->dtype == DTYPE_F16 ? 1e3 : 1e4;
    db->magnitude = 0.1 * of_dy * 2 / (double)(p[H] * p[W]) / length /
                    sqrt((double)p[C]); /* of all but one's */
    if (fill == FILL_NEAR_CONSTANT)
        db->magnitude *= 1e4; /* directions differ in few digits */
    work(c, 0, 3 * (double)db->bytes);
    RUN(c, feature_distance_backward, {on(a, side), on(b, side), on(weight_of_c, side), NULL, EPS},
        on(dy, side), on(db, side));
    finish(c, NULL);
    if (fill == FILL_ZERO_ROWS || fill == FILL_NEAR_CONSTANT || p[C] == 1)
        return; /* no step is small compared with zero rows; a single channel has only two
                   directions */
    for (differences_begin(c, dy); differences_next(c);)
        double_feature_distance(in_double(a), in_double(b), in_double(weight_of_c),
                                differences_output(c), EPS);
}

const struct op_test test_feature_distance_backward = {
    OP_TEST(feature_distance_backward),
    .tolerance = 5e-6,
    .parameters = {"n", "h", "w", "c", "fill"},
};
