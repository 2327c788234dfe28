#include "tests/op/attention.h"

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 0, 0, FILL_NORMAL},    {1, 1, 2, 64, 1, 0, FILL_NORMAL},
    {2, 5, 3, 7, 0, 0, FILL_NORMAL},    {2, 5, 3, 7, 1, 0, FILL_NORMAL},
    {2, 77, 8, 64, 0, 1, FILL_NORMAL},  {1, 197, 3, 64, 0, 0, FILL_NORMAL},
    {1, 16, 24, 64, 1, 0, FILL_NORMAL}, {2, 64, 4, 64, 1, 0, FILL_NORMAL},
    {1, 256, 2, 64, 1, 0, FILL_NORMAL}, {1, 100, 1, 512, 0, 0, FILL_NORMAL},
    {1, 64, 1, 128, 1, 0, FILL_NORMAL}, {2, 19, 2, 16, 2, 0, FILL_NORMAL},
    {1, 40, 3, 64, 2, 1, FILL_NORMAL},  {3, 13, 2, 20, 0, 1, FILL_SMALL},
    {1, 33, 2, 64, 1, 0, FILL_LARGE},   {2, 9, 4, 32, 0, 1, FILL_ZERO_ROWS},
    {1, 31, 2, 65, 0, 1, FILL_NORMAL},  {1, 20, 2, 64, 0, 0, FILL_NEAR_CONSTANT},
};

/* CLOOB ViT-B/16 and text tower, U-Net 192 twice, KL-f8. */
static const int64_t bench[][MAX_PARAMETERS] = {
    {4, 197, 12, 64, 0, 0, FILL_NORMAL},  {4, 77, 8, 64, 0, 1, FILL_NORMAL},
    {1, 256, 12, 64, 1, 0, FILL_NORMAL},  {1, 64, 24, 64, 1, 0, FILL_NORMAL},
    {1, 1024, 1, 512, 0, 0, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    draw_attention(c, p, 150, 130);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

/* Limits logits to what float32 resolves: a softmax of 1e8 is decided by rounding. */
static enum fill logits(enum fill fill)
{
    return fill == FILL_LARGE ? FILL_WIDE : fill == FILL_NEAR_CONSTANT ? FILL_NORMAL : fill;
}

static void run_packed(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D];
    enum fill fill = logits((enum fill)p[FILL]);
    struct operand *qkv = activations(c, "qkv", fill, DIMS(p[N], p[S], 3 * width));
    struct operand *y = output(c, DIMS(p[N], p[S], width));
    RUN(c, attention, element(on(qkv, side), 0), element(on(qkv, side), width),
        element(on(qkv, side), 2 * width), 3 * width, 3 * width, 3 * width, p[N], p[S], p[HEADS],
        p[D], NULL, on(y, side));
    finish(c, attention_qkv(c->tape, on(qkv, DEVICE), (int)p[HEADS]));
    for (int64_t i = 0; i < p[N] && c->mode == MODE_COMPARE; i++) {
        struct tensor *one = tensor_slice(on(qkv, DEVICE), i, 1);
        finish_alone(c, y, i, attention_qkv(c->tape, one, (int)p[HEADS]));
        tensor_release(one);
    }
}

/* Rows of different strides, which no public op has. */
static void run_apart(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D], ld_q = width + 1, ld_k = width + 6, ld_v = 2 * width + 3;
    enum fill fill = logits((enum fill)p[FILL]);
    struct attention_operands o = attention_operands(c, p, fill, fill, ld_q, ld_k, ld_v);
    struct operand *y = output(c, DIMS(p[N], p[S], width));
    RUN(c, attention, on(o.q, side)->data, on(o.k, side)->data, on(o.v, side)->data, ld_q, ld_k,
        ld_v, p[N], p[S], p[HEADS], p[D], on(o.uniform, side), on(y, side));
    finish(c, NULL);
}

static void run_whole(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D];
    enum fill fill = (enum fill)p[FILL];
    struct attention_operands o = attention_operands(c, p, logits(fill), fill, width, width, width);
    struct operand *y = output(c, DIMS(p[N], p[S], width));
    RUN(c, attention, on(o.q, side)->data, on(o.k, side)->data, on(o.v, side)->data, width, width,
        width, p[N], p[S], p[HEADS], p[D], on(o.uniform, side), on(y, side));
    finish(c, attention(c->tape, on(o.q, DEVICE), on(o.k, DEVICE), on(o.v, DEVICE), (int)p[HEADS],
                        on(o.uniform, DEVICE)));
}

static void run(struct check *c, const int64_t *p)
{
    if (p[FILL] == FILL_LARGE || p[FILL] == FILL_WIDE)
        c->tolerance = 1e-4; /* logits in the hundreds have four digits after the decimal point */
    work(c, 4.0 * (double)(p[N] * p[S] * p[S] * p[HEADS] * p[D]), 0);
    (p[PACKED] == 0 ? run_whole : p[PACKED] == 1 ? run_packed : run_apart)(c, p);
}

const struct op_test test_attention = {
    OP_TEST(attention),
    .tolerance = 3e-6,
    .roundings = 1, /* of probabilities, for the matrix product */
    .parameters = {"n", "s", "heads", "d", "packed", "uniform", "fill"},
};
