#include "tests/op/checker.h"

/* BESIDE: channels of the tensor that follows; 0: none. */
enum { N, H, W, C, BESIDE };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1},      {1, 1, 4, 3},      {2, 4, 1, 5},     {2, 3, 5, 7},
    {1, 8, 8, 64},     {2, 8, 4, 130},    {1, 1, 1, 1, 1},  {2, 3, 5, 7, 3},
    {2, 4, 4, 64, 64}, {1, 8, 8, 64, 32}, {2, 2, 3, 16, 4}, {1, 4, 4, 130, 6},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 16, 16, 768},
    {4, 4, 4, 1536},
    {4, 8, 8, 1536, 768},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 20, 140);
    p[BESIDE] = coin(c) ? 0 : between(c, 1, 140);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *beside =
        p[BESIDE] ? activations(c, "beside", FILL_NORMAL, DIMS(p[N], 2 * p[H], 2 * p[W], p[BESIDE]))
                  : NULL;
    struct operand *y = output(c, DIMS(p[N], 2 * p[H], 2 * p[W], p[C] + p[BESIDE]));
    c->magnitude = 1;
    work(c, 0, (double)(x->bytes + y->bytes + (beside ? beside->bytes : 0)));
    RUN(c, upsample_bilinear2x, on(x, side), on(beside, side), on(y, side));
    finish(c, upsample_bilinear2x(c->tape, on(x, DEVICE), on(beside, DEVICE)));
}

const struct op_test test_upsample_bilinear2x = {
    OP_TEST(upsample_bilinear2x),
    .tolerance = 3e-7,
    .parameters = {"n", "h", "w", "c", "beside"},
};
