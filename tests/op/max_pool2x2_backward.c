#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "tests/op/in_double.h"

enum { N, H, W, C, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 2, 2, 1, FILL_NORMAL},  {1, 2, 4, 3, FILL_NORMAL},     {2, 6, 4, 7, FILL_NORMAL},
    {1, 8, 8, 64, FILL_NORMAL}, {2, 8, 8, 66, FILL_NORMAL},    {3, 3, 11, 33, FILL_NORMAL},
    {2, 7, 5, 64, FILL_NORMAL}, {2, 8, 8, 32, FILL_ZERO_ROWS}, {1, 9, 8, 24, FILL_LARGE},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {1, 256, 256, 64, FILL_NORMAL}, /* VGG16 */
    {4, 64, 64, 256, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 4);
    p[H] = between(c, 2, 12);
    p[W] = between(c, 2, 12);
    p[C] = between(c, 1, coin(c) ? 9 : 70);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

/* By how much the maximum of each block exceeds the next: [n, h/2, w/2, c]. */
static struct tensor *gaps(struct check *c, const struct tensor *x)
{
    int64_t n = x->shape[0], h = x->shape[1], w = x->shape[2], ch = x->shape[3], at = 0;
    float *from = xmalloc((size_t)tensor_count(x) * sizeof *from);
    float *gap = xmalloc((size_t)tensor_count(x) * sizeof *gap);
    tensor_to_f32(x, from);
    for (int64_t row = 0; row < n * (h / 2); row++)
        for (int64_t i = 0; i < w / 2 * ch; i++) {
            int64_t y = row / (h / 2) * h + row % (h / 2) * 2;
            const float *block = from + (y * w + i / ch * 2) * ch + i % ch;
            float first = -INFINITY, second = -INFINITY;
            for (int k = 0; k < 4; k++) {
                float v = block[(k / 2 * w + k % 2) * ch];
                second = fmaxf(second, fminf(first, v));
                first = fmaxf(first, v);
            }
            gap[at++] = first - second;
        }
    struct tensor *result = tensor_from_f32(c->device[REF], DIMS(n, h / 2, w / 2, ch), gap);
    free(from);
    free(gap);
    return result;
}

static void run(struct check *c, const int64_t *p)
{
    bool ties = p[FILL] == FILL_ZERO_ROWS;
    struct operand *x = activations(c, "x", (enum fill)p[FILL], IMAGE(p));
    struct operand *dy =
        ties ? activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[H] / 2, p[W] / 2, p[C]))
             : gradient_off_kinks(c, "dy", gaps(c, on(x, truth(c))));
    struct operand *dx = gradient(c, "dx", x);
    work(c, 0, 2 * (double)dx->bytes + (double)dy->bytes);
    RUN(c, max_pool2x2_backward, {on(x, side), NULL}, on(dy, side), on(dx, side));
    finish(c, NULL);
    if (ties)
        return; /* no step is small enough to keep the maximum the same */
    for (differences_begin(c, dy); differences_next(c);)
        double_max_pool2x2(in_double(x), differences_output(c));
}

const struct op_test test_max_pool2x2_backward = {
    OP_TEST(max_pool2x2_backward),
    .tolerance = 0,
    .parameters = {"n", "h", "w", "c", "fill"},
};
