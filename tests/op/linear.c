#include "tests/op/checker.h"

/* dims: 2 for x [n*s, k], 3 for [n, s, k]; wdims: 2 for weight [o, k], 4 for [o, k, 1, 1]. */
enum { N, S, IN, OUT, DIMENSIONS, WEIGHT_DIMENSIONS, BIAS, ACT, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1, 7, 5, 2, 2, 0, ACTIVATION_RELU, FILL_NORMAL},
    {1, 1, 640, 1024, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL},
    {3, 1, 1024, 100, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL},
    {2, 5, 33, 65, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {2, 17, 128, 384, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 197, 192, 257, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 64, 256, 96, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 64, 4, 64, 3, 4, 1, ACTIVATION_SILU, FILL_NORMAL},
    {2, 9, 20, 3, 3, 4, 0, ACTIVATION_NONE, FILL_LARGE},
    {1, 13, 70, 70, 2, 2, 1, ACTIVATION_NONE, FILL_NEAR_CONSTANT},
    {4, 77, 128, 64, 3, 2, 1, ACTIVATION_SILU, FILL_NORMAL},
    {2, 197, 768, 500, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {1, 4, 3072, 768, 2, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 768, 768, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL}, /* CLOOB ViT-B/16 */
    {4, 197, 768, 3072, 3, 2, 1, ACTIVATION_GELU, FILL_NORMAL},
    {4, 197, 3072, 768, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1, 1024, 3072, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL}, /* U-Net modulation */
    {4, 1, 1024, 3072, 2, 2, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 256, 768, 2304, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL}, /* U-Net qkv and skip */
    {1, 1024, 1536, 768, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL},
    {1, 1024, 512, 512, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL}, /* KL-f8 attention */
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[S] = coin(c) ? 1 : between(c, 1, 70);
    p[IN] = between(c, 1, coin(c) ? 40 : 400);
    p[OUT] = between(c, 1, coin(c) ? 40 : 400);
    p[DIMENSIONS] = between(c, 2, 3);
    p[WEIGHT_DIMENSIONS] = coin(c) ? 2 : 4;
    p[BIAS] = coin(c);
    p[ACT] = between(c, ACTIVATION_NONE, ACTIVATION_LEAKY_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    bool flat = p[DIMENSIONS] == 2;
    struct operand *x = flat ? activations(c, "x", fill, DIMS(p[N] * p[S], p[IN]))
                             : activations(c, "x", fill, DIMS(p[N], p[S], p[IN]));
    struct operand *w = p[WEIGHT_DIMENSIONS] == 2 ? weight(c, "weight", DIMS(p[OUT], p[IN]))
                                                  : weight(c, "weight", DIMS(p[OUT], p[IN], 1, 1));
    struct operand *b = p[BIAS] ? parameter(c, "bias", 0, 0.5, p[OUT]) : NULL;
    struct operand *y =
        flat ? output(c, DIMS(p[N] * p[S], p[OUT])) : output(c, DIMS(p[N], p[S], p[OUT]));
    enum activation_kind act = (enum activation_kind)p[ACT];
    c->magnitude = fill_magnitude(c, (enum fill)p[FILL]);
    work(c, 2.0 * (double)(p[N] * p[S]) * (double)(p[IN] * p[OUT]), 0);
    RUN(c, linear, on(x, side), on(w, side), on(b, side), on(y, side), act);
    finish(c, linear(c->tape, on(x, DEVICE), on(w, DEVICE), on(b, DEVICE), act));
    int64_t slices = on(x, DEVICE)->shape[0];
    for (int64_t i = 0; i < slices && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(x, DEVICE), i, 1);
        finish_alone(c, y, i, linear(c->tape, one, on(w, DEVICE), on(b, DEVICE), act));
        tensor_release(one);
    }
}

const struct op_test test_linear = {
    .name = "linear",
    .tolerance = 3e-6,
    .library = true,
    .roundings = 1, /* of the bias */
    .weight_dtypes = true,
    .parameters = {"n", "s", "in", "out", "dims", "wdims", "bias", "act", "fill"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
