#include "tests/op/checker.h"
#include "tests/op/in_double.h"

/* wanted: sum of 1 for da, 2 for db. */
enum { N, H, W, CA, CB, WANTED };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1, 3},     {1, 1, 1, 3, 5, 3},     {2, 3, 5, 7, 1, 3},
    {2, 3, 5, 7, 1, 1},     {2, 3, 5, 7, 1, 2},     {1, 8, 8, 64, 64, 3},
    {2, 2, 2, 512, 256, 3}, {1, 16, 16, 30, 33, 3}, {3, 1, 1, 512, 128, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 32, 32, 256, 256, 3},
    {8, 8, 8, 512, 512, 3},
};

static void draw(struct check *c, int64_t *p)
{
    draw_image(c, p, 4, 10, 100);
    p[CB] = between(c, 1, coin(c) ? 9 : 100);
    p[WANTED] = coin(c) ? 3 : between(c, 1, 3);
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *a = activations(c, "a", FILL_NORMAL, IMAGE(p));
    struct operand *b = activations(c, "b", FILL_NORMAL, DIMS(p[N], p[H], p[W], p[CB]));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[H], p[W], p[CA] + p[CB]));
    struct operand *da = p[WANTED] & 1 ? gradient(c, "da", a) : NULL;
    struct operand *db = p[WANTED] & 2 ? gradient(c, "db", b) : NULL;
    work(c, 0, 2 * (double)dy->bytes);
    RUN(c, concat_backward, on(dy, side), on(da, side), on(db, side));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_concat(in_double(a), in_double(b), differences_output(c));
}

const struct op_test test_concat_backward = {
    OP_TEST(concat_backward),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "ca", "cb", "wanted"},
};
