#include "tests/op/checker.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

/* wanted: 1 for dx. */
enum { N, C, H, W, FILL, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, FILL_NORMAL, 1},        {2, 3, 5, 7, FILL_NORMAL, 1},
    {2, 3, 5, 7, FILL_NORMAL, 0},        {8, 4, 32, 32, FILL_NORMAL, 1},
    {3, 4, 9, 9, FILL_NEAR_CONSTANT, 1}, {3, 4, 9, 9, FILL_LARGE, 1},
    {3, 4, 9, 9, FILL_SMALL, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4, 32, 32, FILL_NORMAL, 1},
    {64, 4, 32, 32, FILL_NORMAL, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[C] = between(c, 1, 9);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[WANTED] = coin(c);
}

/* A non-finite element must make the start of the image's gradient non-finite: then the update is
 * not applied. */
static void check_not_finite(struct check *c, const int64_t *p, struct tensor *weight)
{
    struct device *d = c->device[DEVICE];
    int64_t count = p[C] * p[H] * p[W], all = p[N] * count, bad = between(c, 0, all - 1);
    float *values = xmalloc((size_t)all * sizeof(float)),
          *losses = xmalloc((size_t)p[N] * sizeof(float));
    normals(c, values, (size_t)all, 0, 1);
    struct tensor *target = tensor_from_f32(d, DIMS(all), values);
    values[bad] = coin(c) ? NAN : coin(c) ? INFINITY : 3e38f; /* or its square overflows */
    struct tensor *x = tensor_from_f32(d, DIMS(p[N], count), values);
    struct tensor *loss = tensor_new(d, DTYPE_F32, DIMS(p[N]));
    struct tensor *dx = tensor_new(d, DTYPE_F32, DIMS(p[N], count));
    d->backend->mse(d, &(struct mse_args){x, target, weight, loss, dx});
    tensor_to_f32(loss, losses);
    tensor_to_f32(dx, values);
    for (int64_t i = 0; i < p[N]; i++)
        if (!isfinite(losses[i]) != (i == bad / count) ||
            !isfinite(values[i * count]) != (i == bad / count))
            check_failure(c,
                          "image %" PRId64 ", while image %" PRId64
                          " is not finite: loss %g, gradient begins with %g",
                          i, bad / count, losses[i], values[i * count]);
    tensor_release(x);
    tensor_release(target);
    tensor_release(loss);
    tensor_release(dx);
    free(losses);
    free(values);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct operand *x = activations(c, "x", fill, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *target = activations(c, "target", fill, DIMS(p[N], p[C], p[H], p[W]));
    struct operand *loss = output_named(c, "loss", DIMS(p[N]));
    struct operand *dx = p[WANTED] ? output_named(c, "dx", DIMS(p[N], p[C], p[H], p[W])) : NULL;
    float one_of_all = 1 / (float)(p[N] * p[C] * p[H] * p[W]);
    struct operand *weight_of_one = input_typed(c, "weight", DTYPE_F32, DIMS(1), &one_of_all);
    work(c, 0, 3 * (double)x->bytes);
    RUN(c, mse, on(x, side), on(target, side), dx ? on(weight_of_one, side) : NULL, on(loss, side),
        on(dx, side));
    finish(c, NULL);
    if (c->mode == MODE_COMPARE)
        check_not_finite(c, p, on(weight_of_one, DEVICE));
}

const struct op_test test_mse = {
    OP_TEST(mse),
    .tolerance = 2e-6,
    .f32_only = true,
    .parameters = {"n", "c", "h", "w", "fill", "wanted"},
};
