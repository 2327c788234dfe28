#include "tests/op/checker.h"

#include <math.h>

#include "tests/op/in_double.h"

/* dims: 2 for x [n*s, k], 3 for [n, s, k]; wdims: 2 for weight [o, k], 4 for [o, k, 1, 1].
 * wanted: sum of 1 for dx, 2 for dweight, 4 for dbias, 8 where dweight is fresh. */
enum { N, S, IN, OUT, DIMENSIONS, WEIGHT_DIMENSIONS, BIAS, ACT, FILL, WANTED };

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
    {2, 17, 128, 384, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {1, 64, 256, 96, 3, 4, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {1, 64, 4, 64, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {2, 9, 20, 3, 3, 4, 0, ACTIVATION_NONE, FILL_LARGE, 3},
    {1, 13, 70, 70, 2, 2, 1, ACTIVATION_NONE, FILL_NEAR_CONSTANT, 7},
    {4, 197, 96, 130, 3, 2, 1, ACTIVATION_NONE, FILL_NORMAL, 7},
    {64, 1, 200, 128, 2, 2, 1, ACTIVATION_RELU, FILL_NORMAL, 7},
    {2, 1024, 24, 40, 3, 4, 0, ACTIVATION_NONE, FILL_NORMAL, 3},
    {2, 10, 24, 40, 3, 4, 1, ACTIVATION_RELU, FILL_NORMAL, 15},
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
    p[N] = between(c, 1, 4);
    p[S] = coin(c) ? 1 : between(c, 1, 70);
    p[IN] = between(c, 1, coin(c) ? 40 : 300);
    p[OUT] = between(c, 1, coin(c) ? 40 : 300);
    p[DIMENSIONS] = between(c, 2, 3);
    p[WEIGHT_DIMENSIONS] = coin(c) ? 2 : 4;
    p[BIAS] = coin(c);
    p[ACT] = between(c, ACTIVATION_NONE, ACTIVATION_RELU);
    p[FILL] = between(c, FILL_NORMAL, FILL_WIDE);
    p[WANTED] = coin(c) ? 7 : between(c, 1, p[BIAS] ? 7 : 3);
    p[WANTED] |= coin(c) ? 8 : 0;
}

static void run(struct check *c, const int64_t *p)
{
    enum fill fill = (enum fill)p[FILL];
    enum activation_kind act = (enum activation_kind)p[ACT];
    int64_t rows = p[N] * p[S];
    bool flat = p[DIMENSIONS] == 2;
    struct operand *x = flat ? activations(c, "x", fill, DIMS(rows, p[IN]))
                             : activations(c, "x", fill, DIMS(p[N], p[S], p[IN]));
    struct operand *w = p[WEIGHT_DIMENSIONS] == 2 ? weight(c, "weight", DIMS(p[OUT], p[IN]))
                                                  : weight(c, "weight", DIMS(p[OUT], p[IN], 1, 1));
    struct operand *b = p[BIAS] ? parameter(c, "bias", 0, 0.5, p[OUT]) : NULL;
    struct operand *dy = gradient_off_kinks(
        c, "dy",
        linear(truth_tape(c), on(x, truth(c)), on(w, truth(c)), on(b, truth(c)), ACTIVATION_NONE));
    struct operand *y = dy; /* for its shape */
    if (act == ACTIVATION_RELU)
        y = computed(c, "y",
                     linear(truth_tape(c), on(x, truth(c)), on(w, truth(c)), on(b, truth(c)), act));
    struct operand *dx = p[WANTED] & 1 ? gradient(c, "dx", x) : NULL;
    bool fresh = p[WANTED] & 8;
    struct operand *dw = NULL;
    if (p[WANTED] & 2)
        dw = fresh ? gradient_anew(c, "dweight", w) : gradient_sum(c, "dweight", w);
    struct operand *db = b && p[WANTED] & 4 ? gradient_sum(c, "dbias", b) : NULL;
    if (dx)
        dx->magnitude = 0.3 * sqrt((double)p[OUT] / (double)p[IN]);
    if (dw)
        dw->magnitude = 0.3 * fill_magnitude(c, fill) * sqrt((double)rows);
    if (db)
        db->magnitude = 0.3 * sqrt((double)rows);
    work(c, 2.0 * (double)(!!dx + !!dw) * (double)rows * (double)(p[IN] * p[OUT]),
         (double)dy->bytes);
    RUN(c, linear_backward, {on(x, side), on(w, side), on(b, side), on(y, side), act}, on(dy, side),
        on(dx, side), on(dw, side), on(db, side), fresh);
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_linear(in_double(x), in_double(w), in_double(b), differences_output(c), act);
}

const struct op_test test_linear_backward = {
    .name = "linear_backward",
    .tolerance = 1e-5,
    .library = true,
    .parameters = {"n", "s", "in", "out", "dims", "wdims", "bias", "act", "fill", "wanted"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
