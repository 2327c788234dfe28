#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

/* The most that the ratio may be is MOST / 1000. */
enum { SEGMENTS, MOST, IMAGES };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1000000, 1},
    {3, 1000000, 8},
    {1, 1, 4},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 1000000, 8},
};

static void draw(struct check *c, int64_t *p)
{
    p[SEGMENTS] = between(c, 1, 9);
    p[MOST] = coin(c) ? between(c, 1, 2000) : 1000000;
    p[IMAGES] = between(c, 1, 9);
}

static struct operand *squares(struct check *c, const char *name, int64_t count)
{
    float *values = xmalloc((size_t)count * sizeof *values);
    double *squares = xmalloc((size_t)count * sizeof *squares);
    normals(c, values, (size_t)count, 0, 1);
    for (int64_t i = 0; i < count; i++)
        squares[i] = (double)values[i] * values[i];
    struct operand *o = input_typed(c, name, DTYPE_F64, DIMS(count), squares);
    free(values);
    free(squares);
    return o;
}

static void run(struct check *c, const int64_t *p)
{
    double one_image = 1 / (double)p[IMAGES];
    struct operand *nll = squares(c, "nll", p[SEGMENTS]);
    struct operand *generator = squares(c, "generator", p[SEGMENTS]);
    struct operand *weight_of_one = input_typed(c, "weight", DTYPE_F64, DIMS(1), &one_image);
    struct operand *w = output_typed(c, "w", DTYPE_F64, DIMS(1));
    RUN(c, adaptive_weight, on(nll, side)->data, on(generator, side)->data, p[SEGMENTS],
        on(weight_of_one, side), (double)p[IMAGES], 1e-4, (double)p[MOST] / 1000, 0.5, on(w, side));
    finish(c, NULL);
}

const struct op_test test_adaptive_weight = {
    OP_TEST(adaptive_weight),
    .tolerance = 1e-12,
    .f32_only = true,
    .parameters = {"segments", "most", "images"},
};
