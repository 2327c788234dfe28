#include "tests/op/checker.h"

#include <math.h>

/* tau: inv_tau; hopfield: scale_hopfield. */
enum { N, D, TAU, HOPFIELD };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {2, 1, 30, 15}, {2, 24, 30, 15}, {7, 12, 30, 8}, {33, 64, 1, 0}, {64, 128, 30, 15},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {256, 512, 30, 15},
    {1024, 512, 30, 15},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 2, 80);
    p[D] = between(c, 1, 150);
    p[TAU] = between(c, 1, 40);
    p[HOPFIELD] = between(c, 0, 20);
}

static struct operand *embeddings(struct check *c, const char *name, const char *before,
                                  const int64_t *p)
{
    struct operand *x = outside(c, before, FILL_NORMAL, DIMS(p[N], p[D]));
    struct tensor *of_ref = on(x, REF);
    struct tensor *unit = l2_normalize(c->ref_tape, of_ref, 1e-12f, 1);
    return computed(c, name, unit);
}

static void run(struct check *c, const int64_t *p)
{
    double one = 1;
    struct operand *image = embeddings(c, "image", "image.raw", p);
    struct operand *text = embeddings(c, "text", "text.raw", p);
    struct operand *weight_of_one = input_typed(c, "weight", DTYPE_F64, DIMS(1), &one);
    struct operand *numbers = output_typed(c, "numbers", DTYPE_F64, DIMS(2));
    numbers->magnitude = (double)p[TAU];
    struct operand *dimage = output_named(c, "dimage", DIMS(p[N], p[D]));
    struct operand *dtext = output_named(c, "dtext", DIMS(p[N], p[D]));
    /* Gradients are sums of terms that nearly cancel where a few patterns dominate. */
    c->magnitude = (double)p[TAU] / sqrt((double)(p[N] * p[D]));
    work(c, 40.0 * (double)(p[N] * p[N] * p[D]), 0);
    RUN(c, cloob_loss, on(image, side), on(text, side), on(weight_of_one, side), (double)p[TAU],
        (double)p[HOPFIELD], on(numbers, side), on(dimage, side), on(dtext, side));
    finish(c, NULL);
}

const struct op_test test_cloob_loss = {
    OP_TEST(cloob_loss),
    .tolerance = 1e-5,
    .f32_only = true,
    .library = true,
    .parameters = {"n", "d", "tau", "hopfield"},
};
