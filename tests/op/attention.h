#ifndef CCLD_TESTS_OP_ATTENTION_H
#define CCLD_TESTS_OP_ATTENTION_H

#include "tests/op/checker.h"

/* What the tests of attention and attention_backward share. packed: 1, q, k and v are columns of
 * one tensor; 2, their rows have different strides. uniform: some rows have equal weights. */
enum { N, S, HEADS, D, PACKED, UNIFORM, FILL };

struct attention_operands {
    struct operand *q, *k, *v, *uniform;
};

static inline void draw_attention(struct check *c, int64_t *p, int64_t max_s, int64_t max_d)
{
    p[N] = between(c, 1, 3);
    p[S] = between(c, 1, coin(c) ? 20 : max_s);
    p[HEADS] = between(c, 1, 4);
    p[D] = coin(c) ? 64 : between(c, 1, max_d);
    p[PACKED] = between(c, 0, 2);
    p[UNIFORM] = p[PACKED] == 1 ? 0 : coin(c);
}

/* q, k and v as tensors of their own, with rows of ld_q, ld_k and ld_v elements. */
static inline struct attention_operands attention_operands(struct check *c, const int64_t *p,
                                                           enum fill logits, enum fill values,
                                                           int64_t ld_q, int64_t ld_k, int64_t ld_v)
{
    struct attention_operands o;
    o.q = activations(c, "q", logits, DIMS(p[N], p[S], ld_q));
    o.k = activations(c, "k", logits, DIMS(p[N], p[S], ld_k));
    o.v = activations(c, "v", values, DIMS(p[N], p[S], ld_v));
    o.uniform = p[UNIFORM] ? integers(c, "uniform", 2, DIMS(p[N], p[S])) : NULL;
    return o;
}

#endif
