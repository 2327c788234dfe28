#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

/* Learning rate 10^-RATE_EXPONENT, weight decay DECAY / 100, EMA decay 1 - 10^-EMA (0: no EMA),
 * loss scale 2^LOSS_SCALE, clipping at CLIP / 100 of the gradient's norm (0: none). broken: 1, 2 or
 * 3 if an element of the gradient is NaN, infinite or -infinite. copied: the input channels of a
 * 3x3 kernel that has a copy with channels last, as has a vector after it; 0: none. compact: 1 +
 * the type of that kernel's copy and compact gradient; 0: F32, and a plain gradient. before: EMA is
 * behind, and the decay of the step before was 1 - 10^-before; 0: it is not. given: the gradient is
 * the step, without m and v; none is compact then. */
enum {
    COUNT,
    STEP,
    RATE_EXPONENT,
    DECAY,
    EMA,
    LOSS_SCALE,
    CLIP,
    BROKEN,
    COPIED,
    GRADIENT_TYPE,
    BEFORE,
    GIVEN
};

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 2, 0, 0, 0},
    {1000, 1, 1, 1, 2, 0, 50, 0},
    {1003, 10, 2, 0, 1, 16, 0, 0},
    {70001, 3, 1, 10, 0, 10, 30, 0},
    {1003, 1000, 2, 50, 3, 3, 200, 0},
    {517, 2, 1, 1, 2, 16, 1, 0},
    {1003, 2, 1, 1, 2, 0, 50, 1},
    {1003, 2, 1, 1, 2, 16, 0, 2},
    {70001, 2, 1, 1, 0, 0, 100, 3},
    {1, 2, 1, 1, 2, 0, 50, 1},
    {300007, 5, 3, 1, 4, 0, 90, 0},
    {1003, 1, 1, 1, 2, 0, 50, 0, 5},
    {70001, 3, 1, 10, 0, 10, 30, 0, 130},
    {5000, 1, 1, 1, 2, 0, 50, 0, 300},
    {1003, 2, 1, 1, 2, 0, 50, 1, 7},
    {2048, 1, 1, 1, 2, 0, 50, 0, 1},
    {5000, 1, 1, 1, 2, 0, 50, 0, 300, 1 + DTYPE_F32},
    {70001, 3, 1, 10, 0, 10, 30, 0, 130, 1 + DTYPE_BF16},
    {1003, 1, 1, 1, 2, 0, 50, 0, 5, 1 + DTYPE_F16},
    {1003, 2, 1, 1, 2, 0, 50, 1, 7, 1 + DTYPE_F32},
    {1003, 5, 1, 1, 1, 16, 50, 0, 0, 0, 1},
    {70001, 5, 1, 1, 2, 0, 50, 0, 130, 1 + DTYPE_BF16, 1},
    {1003, 5, 1, 1, 1, 0, 50, 1, 0, 0, 1},
    {70001, 5, 1, 1, 2, 10, 50, 0, 0, 0, 1, 1},
    {70001, 5, 1, 1, 2, 10, 50, 0, 130, 0, 1, 1},
    {1003, 2, 1, 1, 2, 0, 50, 1, 0, 0, 0, 1},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {10000000, 10, 5, 1, 4, 0, 100, 0},
    {600000000, 10, 5, 1, 4, 0, 100, 0}, /* U-Net 192 has 571 million */
    {600000000, 10, 5, 1, 0, 0, 100, 0},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 5000 : 100000);
    p[STEP] = between(c, 1, coin(c) ? 5 : 5000);
    p[RATE_EXPONENT] = between(c, 1, 5);
    p[DECAY] = between(c, 0, 10);
    p[EMA] = between(c, 0, 4);
    p[LOSS_SCALE] = coin(c) ? 0 : between(c, 0, 20);
    p[CLIP] = coin(c) ? 0 : between(c, 1, 200);
    p[BROKEN] = coin(c) ? 0 : between(c, 0, 3);
    p[COPIED] = coin(c) ? 0 : between(c, 1, coin(c) ? 10 : 200);
    p[GRADIENT_TYPE] =
        !p[COPIED] || p[BROKEN] || coin(c) ? 0 : 1 + between(c, DTYPE_F32, DTYPE_BF16);
    p[BEFORE] = coin(c) ? 0 : between(c, 1, 4);
    p[GIVEN] = !p[GRADIENT_TYPE] && between(c, 0, 4) == 0;
}

static struct operand *draw_gradient(struct check *c, const int64_t *p)
{
    struct tensor *g = tensor_new(c->device[REF], DTYPE_F32, DIMS(p[COUNT]));
    float *values = g->data;
    normals(c, values, (size_t)p[COUNT], 0, ldexp(1, (int)p[LOSS_SCALE]));
    if (p[BROKEN])
        values[between(c, 0, p[COUNT] - 1)] = p[BROKEN] == 1   ? NAN
                                              : p[BROKEN] == 2 ? INFINITY
                                                               : -INFINITY;
    return computed(c, "gradient", g);
}

/* The sums of g's squares, which the op only reads. */
static struct operand *squares_of(struct check *c, const struct operand *g, int64_t count)
{
    int64_t segments = squares_segments(count);
    double *sums = xmalloc((size_t)segments * sizeof *sums);
    ref_square_sums(c->device[REF],
                    &(struct square_sums_args){count, on(g, REF)->data, sums, NULL});
    struct operand *o = input_typed(c, "squares", DTYPE_I64, DIMS(segments), sums);
    free(sums);
    return o;
}

/* The result is no tensor, so RUN does not see it. */
static void check_result(struct check *c, const struct update_result *result, bool broken)
{
    const struct update_result *got = &result[DEVICE], *want = &result[REF];
    if (got->applied == broken || want->applied == broken)
        check_failure(c, "an update with %s gradients was %s", broken ? "non-finite" : "finite",
                      got->applied ? "applied" : "not applied");
    if (broken ? isfinite(got->gradient_norm)
               : !(fabs(got->gradient_norm - want->gradient_norm) <= 2e-6 * want->gradient_norm))
        check_failure(c, "the gradient's norm is %.9g, wanted %.9g", got->gradient_norm,
                      want->gradient_norm);
}

#define AHEAD 40 /* where the elements are in an array of all weights */

/* The table of copies on each side. The kernel begins at element 3, the vector 16 after its end. */
static struct tensor *table_of(struct check *c, enum side side, const int64_t *p,
                               const struct operand *kernel, const struct operand *vector,
                               const struct operand *compact)
{
    int64_t filters = kernel->count / (9 * p[COPIED]), after = AHEAD + 19 + kernel->count;
    struct update_copy rows[] = {
        {AHEAD + 3, kernel->count, on(kernel, side)->data, compact ? on(compact, side)->data : NULL,
         9, p[COPIED], on(kernel, side)->dtype},
        {after, vector->count, on(vector, side)->data, NULL, 1, vector->count, DTYPE_F32},
    };
    CHECK(filters * 9 * p[COPIED] == kernel->count);
    struct tensor *t = tensor_new(c->device[side], DTYPE_I64, DIMS(2, UPDATE_COPY_WORDS));
    tensor_upload(t, rows);
    return t;
}

struct copies {
    struct operand *kernel, *vector;
    struct update_copies on[SIDES];
};

/* Normal numbers of this type. */
static struct operand *draw_compact(struct check *c, enum dtype dtype, int64_t count, double scale)
{
    float *values = xmalloc((size_t)count * sizeof *values);
    void *typed = xmalloc((size_t)count * sizeof *values);
    normals(c, values, (size_t)count, 0, scale);
    dtype_from_f32(dtype, typed, values, (size_t)count);
    struct operand *o = input_typed(c, "compact", dtype, DIMS(count), typed);
    free(values);
    free(typed);
    return o;
}

/* Leaves out what would not fit. */
static struct copies copies_of(struct check *c, const int64_t *p)
{
    struct copies k = {0};
    int64_t filter = 9 * p[COPIED], room = p[COUNT] - 40;
    if (!p[COPIED] || room < filter)
        return k;
    int64_t size = room / 2 / filter > 0 ? room / 2 / filter * filter : filter;
    enum dtype dtype = p[GRADIENT_TYPE] ? (enum dtype)(p[GRADIENT_TYPE] - 1) : DTYPE_F32;
    k.kernel = dtype == DTYPE_F32 ? updated(c, "kernel", 0, 1, size)
                                  : output_typed(c, "kernel", dtype, DIMS(size));
    struct operand *compact =
        p[GRADIENT_TYPE] ? draw_compact(c, dtype, size, ldexp(1, (int)p[LOSS_SCALE])) : NULL;
    k.vector = updated(c, "vector", 0, 1, p[COUNT] - 19 - size);
    for (enum side side = REF; side < SIDES; side++)
        k.on[side] =
            (struct update_copies){table_of(c, side, p, k.kernel, k.vector, compact), 2, 0, 0};
    return k;
}

static void run(struct check *c, const int64_t *p)
{
    struct copies copies = copies_of(c, p);
    struct operand *parameters = updated(c, "parameter", 0, 1, p[COUNT]);
    struct operand *m = p[GIVEN] ? NULL : updated(c, "m", 0, 1, p[COUNT]);
    struct operand *v = p[GIVEN] ? NULL : updated(c, "v", 5, 1, p[COUNT]); /* positive */
    struct operand *ema = p[EMA] ? updated(c, "ema", 0, 1, p[COUNT]) : NULL;
    struct operand *g = draw_gradient(c, p);
    struct operand *squares = squares_of(c, g, p[COUNT]);
    struct update_result result[SIDES];
    double rate = pow(10, -(double)p[RATE_EXPONENT]), decay = (double)p[DECAY] / 100;
    double ema_decay = 1 - pow(10, -(double)p[EMA]), scale = ldexp(1, (int)p[LOSS_SCALE]);
    double clip = (double)p[CLIP] / 100 * sqrt((double)p[COUNT]);
    memset(result, 0xff, sizeof result);
    work(c, 0, ((ema ? 5 : 3) + (m ? 4 : 0)) * (double)g->bytes);
    RUN(c, update, p[COUNT], on(parameters, side)->data, m ? on(m, side)->data : NULL,
        v ? on(v, side)->data : NULL, ema ? on(ema, side)->data : NULL, on(g, side)->data, rate,
        0.9, 0.999, 1e-8, decay, ema_decay, scale, clip, p[STEP], on(squares, side)->data,
        squares_segments(p[COUNT]), &result[side], copies.kernel ? &copies.on[side] : NULL, AHEAD,
        NULL, NULL, p[BEFORE] > 0, 1 - pow(10, -(double)p[BEFORE]));
    for (enum side side = REF; side < SIDES; side++)
        tensor_release((struct tensor *)copies.on[side].table);
    if (c->mode == MODE_BENCH) {
        finish(c, NULL);
        return;
    }
    check_result(c, result, p[BROKEN] != 0);
    for (int i = 0; i < c->operand_count && p[BROKEN]; i++)
        check_unchanged(c, &c->operands[i]);
    finish(c, NULL);
}

const struct op_test test_update = {
    OP_TEST(update),
    .tolerance = 4e-6,
    .f32_only = true,
    .parameters = {"count", "step", "rate_exponent", "decay", "ema", "loss_scale", "clip", "broken",
                   "copied", "compact", "before", "given"},
};
