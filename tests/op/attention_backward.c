#include "tests/op/attention.h"
#include "tests/op/in_double.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 0, 0, FILL_NORMAL},      {1, 1, 2, 64, 1, 0, FILL_NORMAL},
    {2, 5, 3, 7, 0, 0, FILL_NORMAL},      {2, 5, 3, 7, 1, 0, FILL_NORMAL},
    {2, 77, 2, 64, 0, 1, FILL_NORMAL},    {1, 197, 1, 64, 0, 0, FILL_NORMAL},
    {1, 16, 6, 64, 1, 0, FILL_NORMAL},    {2, 64, 2, 64, 1, 0, FILL_NORMAL},
    {1, 100, 1, 96, 0, 0, FILL_NORMAL},   {1, 30, 1, 256, 0, 0, FILL_NORMAL},
    {2, 19, 2, 16, 2, 0, FILL_NORMAL},    {1, 40, 3, 64, 2, 1, FILL_NORMAL},
    {3, 13, 2, 20, 0, 1, FILL_SMALL},     {1, 33, 2, 64, 1, 0, FILL_WIDE},
    {2, 9, 4, 32, 0, 1, FILL_NORMAL},     {1, 31, 2, 65, 0, 1, FILL_NORMAL},
    {1, 20, 2, 64, 0, 0, FILL_ZERO_ROWS}, {2, 128, 2, 64, 1, 0, FILL_NORMAL},
    {1, 256, 3, 64, 1, 0, FILL_NORMAL},   {1, 250, 1, 64, 0, 1, FILL_WIDE},
    {1, 257, 1, 64, 1, 0, FILL_NORMAL},   {1, 300, 2, 64, 0, 1, FILL_NORMAL},
};

/* CLOOB ViT-B/16 and text tower, U-Net 64 with batch 8 twice, U-Net 16 with batch 64. */
static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 12, 64, 0, 0, FILL_NORMAL}, {4, 77, 8, 64, 0, 1, FILL_NORMAL},
    {8, 64, 8, 64, 1, 0, FILL_NORMAL},   {8, 16, 8, 64, 1, 0, FILL_NORMAL},
    {64, 64, 2, 64, 1, 0, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    draw_attention(c, p, 70, 100);
    p[FILL] = coin(c) ? FILL_NORMAL : between(c, FILL_SMALL, FILL_ZERO_ROWS);
}

/* Magnitude of dq and dk: differences of dy v in a row, which cancel if one key has all the weight.
 */
static double cancelling(const struct check *c, enum fill fill)
{
    return fill_magnitude(c, fill) * fill_magnitude(c, fill);
}

static void run_packed(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D], first[3] = {0, width, 2 * width}, ld = 3 * width;
    enum fill fill = (enum fill)p[FILL];
    struct operand *qkv = activations(c, "qkv", fill, DIMS(p[N], p[S], ld));
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[S], width));
    struct operand *dqkv = gradient(c, "dqkv", qkv);
    dqkv->magnitude = cancelling(c, fill);
    RUN(c, attention_backward,
        {element(on(qkv, side), 0), element(on(qkv, side), width),
         element(on(qkv, side), 2 * width), ld, ld, ld, p[N], p[S], p[HEADS], p[D], NULL,
         on(dy, side)},
        on(dy, side), element(on(dqkv, side), 0), element(on(dqkv, side), width),
        element(on(dqkv, side), 2 * width));
    finish(c, NULL);
    for (differences_begin(c, dy); differences_next(c);)
        double_attention(in_double(qkv), in_double(qkv), in_double(qkv), first, p[HEADS], p[D],
                         NULL, differences_output(c));
}

/* With contiguous rows, or with gaps between rows that must not change. */
static void run_apart(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D], gap = p[PACKED];
    int64_t ld_q = width + gap, ld_k = width + 3 * gap, ld_v = width + gap * width;
    enum fill fill = (enum fill)p[FILL];
    struct attention_operands o = attention_operands(c, p, fill, fill, ld_q, ld_k, ld_v);
    struct operand *dy = activations(c, "dy", FILL_NORMAL, DIMS(p[N], p[S], width));
    struct operand *dq = gap ? gradient_between(c, "dq", o.q) : gradient(c, "dq", o.q);
    struct operand *dk = gap ? gradient_between(c, "dk", o.k) : gradient(c, "dk", o.k);
    struct operand *dv = gap ? gradient_between(c, "dv", o.v) : gradient(c, "dv", o.v);
    dq->magnitude = dk->magnitude = cancelling(c, fill);
    RUN(c, attention_backward,
        {on(o.q, side)->data, on(o.k, side)->data, on(o.v, side)->data, ld_q, ld_k, ld_v, p[N],
         p[S], p[HEADS], p[D], on(o.uniform, side), on(dy, side)},
        on(dy, side), on(dq, side)->data, on(dk, side)->data, on(dv, side)->data);
    finish(c, NULL);
    if (gap)
        return;
    for (differences_begin(c, dy); differences_next(c);)
        double_attention(in_double(o.q), in_double(o.k), in_double(o.v),
                         (const int64_t[3]){0, 0, 0}, p[HEADS], p[D], in_double(o.uniform),
                         differences_output(c));
}

static void run(struct check *c, const int64_t *p)
{
    if (p[FILL] == FILL_WIDE)
        c->tolerance = 1e-4; /* logits in the hundreds have four digits after the decimal point */
    work(c, 10.0 * (double)(p[N] * p[S] * p[S] * p[HEADS] * p[D]), 0);
    (p[PACKED] == 1 ? run_packed : run_apart)(c, p);
}

const struct op_test test_attention_backward = {
    OP_TEST(attention_backward),
    .tolerance = 5e-6,
    .roundings = 3, /* probabilities and their gradients, for matrix products */
    .parameters = {"n", "s", "heads", "d", "packed", "uniform", "fill"},
};
