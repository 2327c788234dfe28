#include "tests/op/checker.h"

/* packed: 1, q, k and v are columns of one tensor; 2, their rows are apart by different lengths.
 * uniform: some rows have equal weights. */
enum { N, S, HEADS, D, PACKED, UNIFORM, FILL };

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
    p[N] = between(c, 1, 3);
    p[S] = between(c, 1, coin(c) ? 20 : 150);
    p[HEADS] = between(c, 1, 4);
    p[D] = coin(c) ? 64 : between(c, 1, 130);
    p[PACKED] = between(c, 0, 2);
    p[UNIFORM] = p[PACKED] == 1 ? 0 : coin(c);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
}

/* Logits keep to what float32 can tell apart: a softmax of 1e8 is decided by rounding. */
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

/* No public op makes such args yet. */
static void run_apart(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D], ld_q = width + 1, ld_k = width + 6, ld_v = 2 * width + 3;
    enum fill fill = logits((enum fill)p[FILL]);
    struct operand *q = activations(c, "q", fill, DIMS(p[N], p[S], ld_q));
    struct operand *k = activations(c, "k", fill, DIMS(p[N], p[S], ld_k));
    struct operand *v = activations(c, "v", fill, DIMS(p[N], p[S], ld_v));
    struct operand *uniform = p[UNIFORM] ? integers(c, "uniform", 2, DIMS(p[N], p[S])) : NULL;
    struct operand *y = output(c, DIMS(p[N], p[S], width));
    RUN(c, attention, on(q, side)->data, on(k, side)->data, on(v, side)->data, ld_q, ld_k, ld_v,
        p[N], p[S], p[HEADS], p[D], on(uniform, side), on(y, side));
    finish(c, NULL);
}

static void run(struct check *c, const int64_t *p)
{
    int64_t width = p[HEADS] * p[D];
    if (p[FILL] == FILL_LARGE || p[FILL] == FILL_WIDE)
        c->tolerance = 1e-4; /* logits of some hundreds have four digits after the point */
    work(c, 4.0 * (double)(p[N] * p[S] * p[S] * width), 0);
    if (p[PACKED]) {
        (p[PACKED] == 1 ? run_packed : run_apart)(c, p);
        return;
    }
    enum fill fill = (enum fill)p[FILL];
    struct operand *q = activations(c, "q", logits(fill), DIMS(p[N], p[S], width));
    struct operand *k = activations(c, "k", logits(fill), DIMS(p[N], p[S], width));
    struct operand *v = activations(c, "v", fill, DIMS(p[N], p[S], width));
    struct operand *uniform = p[UNIFORM] ? integers(c, "uniform", 2, DIMS(p[N], p[S])) : NULL;
    struct operand *y = output(c, DIMS(p[N], p[S], width));
    RUN(c, attention, on(q, side)->data, on(k, side)->data, on(v, side)->data, width, width, width,
        p[N], p[S], p[HEADS], p[D], on(uniform, side), on(y, side));
    finish(c, attention(c->tape, on(q, DEVICE), on(k, DEVICE), on(v, DEVICE), (int)p[HEADS],
                        on(uniform, DEVICE)));
}

const struct op_test test_attention = {
    .name = "attention",
    .tolerance = 3e-6,
    .roundings = 1, /* of probabilities, for the matrix product */
    .parameters = {"n", "s", "heads", "d", "packed", "uniform", "fill"},
    .sweep = sweep,
    .sweep_count = sizeof sweep / sizeof *sweep,
    .draw = draw,
    .bench = bench,
    .bench_count = sizeof bench / sizeof *bench,
    .run = run,
};
