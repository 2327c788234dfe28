#include "tests/op/checker.h"
#include "tests/op/in_double.h"

/* BESIDE: channels of the tensor that follows; 0: none. WANTED: 1 for dx, 2 for dbeside. */
enum { N, H, W, C, BESIDE, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 0, 1},   {1, 1, 4, 3, 0, 1},   {2, 4, 1, 5, 0, 1},  {2, 3, 5, 7, 0, 1},
    {1, 8, 8, 64, 0, 1},  {2, 8, 4, 66, 0, 1},  {1, 1, 1, 1, 1, 3},  {2, 3, 5, 7, 3, 3},
    {2, 4, 4, 64, 64, 3}, {1, 8, 8, 64, 32, 3}, {2, 2, 3, 16, 4, 3}, {1, 4, 4, 66, 6, 3},
    {2, 4, 4, 64, 64, 2}, {2, 3, 5, 7, 3, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 16, 16, 256, 0, 1},
    {8, 4, 4, 512, 0, 1},
    {8, 4, 4, 512, 256, 3},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 9, 70);
    p[BESIDE] = coin(c) ? 0 : between(c, 1, 70);
    p[WANTED] = p[BESIDE] ? between(c, 1, 3) : 1;
}

static void run(struct check *c, const int64_t *p)
{
    int64_t h = 2 * p[H], w = 2 * p[W];
    struct operand *x = activations(c, "x", FILL_NORMAL, IMAGE(p));
    struct operand *beside =
        p[BESIDE] ? activations(c, "beside", FILL_NORMAL, DIMS(p[N], h, w, p[BESIDE])) : NULL;
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], h, w, p[C] + p[BESIDE]));
    struct operand *dx = p[WANTED] & 1 ? gradient(c, "dx", x) : NULL;
    struct operand *db = p[WANTED] & 2 ? gradient(c, "dbeside", beside) : NULL;
    c->magnitude = 1;
    work(c, 0, (double)dy->bytes + (dx ? dx->bytes : 0) + (db ? db->bytes : 0));
    RUN(c, upsample_bilinear2x_backward, on(dy, side), on(dx, side), on(db, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_upsample_bilinear2x(in_double(x), in_double(beside), differences_output(c));
}

const struct op_test test_upsample_bilinear2x_backward = {
    OP_TEST(upsample_bilinear2x_backward),
    .tolerance = 3e-7,
    .parameters = {"n", "h", "w", "c", "beside", "wanted"},
};
