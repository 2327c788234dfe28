#include "tests/op/checker.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

/* wanted: 1 for dy. */
enum { N, H, W, FILL, SQUARED, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, FILL_NORMAL, 0, 1},  {2, 5, 7, FILL_NORMAL, 1, 1},
    {2, 5, 7, FILL_NORMAL, 0, 0},  {3, 64, 96, FILL_NORMAL, 0, 1},
    {3, 64, 96, FILL_SMALL, 1, 1}, {2, 9, 9, FILL_NEAR_CONSTANT, 0, 1},
    {4, 16, 16, FILL_LARGE, 1, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 256, 256, FILL_NORMAL, 0, 1},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[H] = between(c, 1, 80);
    p[W] = between(c, 1, 80);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[SQUARED] = coin(c);
    p[WANTED] = coin(c);
}

/* A non-finite element must make the start of the image's gradient non-finite: then the update is
 * not applied. */
static void check_not_finite(struct check *c, const int64_t *p, struct tensor *weight)
{
    struct device *d = c->device[DEVICE];
    int64_t count = 3 * p[H] * p[W], all = p[N] * count, bad = between(c, 0, all - 1);
    float *values = xmalloc((size_t)all * sizeof *values);
    double *losses = xmalloc((size_t)p[N] * sizeof *losses);
    normals(c, values, (size_t)all, 0, 1);
    struct tensor *x = tensor_from_f32(d, DIMS(p[N], count), values);
    values[bad] = coin(c) ? NAN : INFINITY;
    struct tensor *y = tensor_from_f32(d, DIMS(p[N], count), values);
    struct tensor *loss = tensor_new(d, DTYPE_F64, DIMS(p[N]));
    struct tensor *dy = tensor_new(d, DTYPE_F32, DIMS(p[N], count));
    d->backend->reconstruction_error(
        d, &(struct reconstruction_error_args){x, y, weight, p[SQUARED], loss, dy});
    d->backend->download(d, losses, loss->data, (size_t)p[N] * sizeof *losses);
    tensor_to_f32(dy, values);
    for (int64_t i = 0; i < p[N]; i++)
        if (!isfinite(losses[i]) != (i == bad / count) ||
            !isfinite(values[i * count]) != (i == bad / count))
            check_failure(c,
                          "image %" PRId64 ", while image %" PRId64
                          " is not finite: loss %g, gradient begins with %g",
                          i, bad / count, losses[i], values[i * count]);
    tensor_release(x);
    tensor_release(y);
    tensor_release(loss);
    tensor_release(dy);
    free(losses);
    free(values);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    struct operand *x = activations(c, "x", fill, DIMS(p[N], 3, p[H], p[W]));
    struct operand *y = activations(c, "y", fill, DIMS(p[N], 3, p[H], p[W]));
    double one_image = 1 / (double)p[N];
    struct operand *weight_of_one = input_typed(c, "weight", DTYPE_F64, DIMS(1), &one_image);
    struct operand *loss = output_typed(c, "loss", DTYPE_F64, DIMS(p[N]));
    struct operand *dy = p[WANTED] ? output_named(c, "dy", DIMS(p[N], 3, p[H], p[W])) : NULL;
    work(c, 0, (p[WANTED] ? 3 : 2) * (double)x->bytes);
    RUN(c, reconstruction_error, on(x, side), on(y, side), dy ? on(weight_of_one, side) : NULL,
        p[SQUARED], on(loss, side), on(dy, side));
    finish(c, NULL);
    if (c->mode == MODE_COMPARE)
        check_not_finite(c, p, on(weight_of_one, DEVICE));
}

const struct op_test test_reconstruction_error = {
    OP_TEST(reconstruction_error),
    .tolerance = 1e-6,
    .f32_only = true,
    .parameters = {"n", "h", "w", "fill", "squared", "wanted"},
};
