#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

/* half: 0 for F16, 1 for BF16 (on a device tested with one of them, that one); narrow: from F32 to
 * it, else from it to F32. */
enum { COUNT, HALF, NARROW, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 0, 1, FILL_NORMAL},           {1, 1, 1, FILL_NORMAL},    {7, 0, 0, FILL_NORMAL},
    {7, 1, 0, FILL_NORMAL},           {4096, 0, 1, FILL_NORMAL}, {4096, 1, 1, FILL_NORMAL},
    {4096, 0, 0, FILL_NORMAL},        {4096, 1, 0, FILL_NORMAL}, {30001, 0, 1, FILL_SMALL},
    {30001, 1, 1, FILL_LARGE},        {30001, 1, 0, FILL_LARGE}, {5003, 0, 1, FILL_NEAR_CONSTANT},
    {5003, 1, 1, FILL_NEAR_CONSTANT},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {64 * 32 * 32 * 768, 1, 1, FILL_NORMAL},
    {64 * 32 * 32 * 768, 1, 0, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[COUNT] = between(c, 1, coin(c) ? 40 : 20000);
    p[HALF] = coin(c);
    p[NARROW] = coin(c);
    p[FILL] = between(c, FILL_NORMAL, FILL_ZERO_ROWS);
    if (p[FILL] == FILL_LARGE)
        p[HALF] = 1;
}

static bool same(float a, float b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

/* Ties, overflow, subnormals, infinities and NaN. */
static void check_special(struct check *c, enum dtype from, enum dtype to)
{
    static const float special[] = {
        0.0f,       -0.0f,      INFINITY,        -INFINITY,    NAN,      65504,    65519.996f,
        65520,      -65520,     0x1p-24f,        0x1p-25f,     0x3p-26f, 0x1p-14f, 0x1.ffcp-15f,
        0x1.002p0f, 0x1.006p0f, 0x1.01p0f,       0x1.03p0f,    3.4e38f,  -3.4e38f, 0x1p-126f,
        0x1p-133f,  0x1p-134f,  0x1.80001p-134f, 0x1.00201p0f, 1e-40f,   1,        -2.5f,
    };
    enum { COUNT_SPECIAL = sizeof special / sizeof *special };
    struct device *d = c->device[DEVICE];
    float want[COUNT_SPECIAL], got[COUNT_SPECIAL];
    uint32_t raw[COUNT_SPECIAL], rounded[COUNT_SPECIAL];
    dtype_from_f32(from, raw, special, COUNT_SPECIAL);
    dtype_to_f32(want, from, raw, COUNT_SPECIAL);
    dtype_from_f32(to, rounded, want, COUNT_SPECIAL);
    dtype_to_f32(want, to, rounded, COUNT_SPECIAL);
    struct tensor *x = tensor_new(d, from, DIMS(COUNT_SPECIAL));
    struct tensor *y = tensor_new(d, to, DIMS(COUNT_SPECIAL));
    tensor_upload(x, raw);
    d->backend->cast(d, &(struct cast_args){x, y});
    tensor_to_f32(y, got);
    for (int i = 0; i < COUNT_SPECIAL; i++)
        if (!same(got[i], want[i]))
            check_failure(c, "%a as %s is %a, wanted %a", special[i], dtype_name(to), got[i],
                          want[i]);
    tensor_release(x);
    tensor_release(y);
}

static void run(struct check *c, const int64_t *p)
{
    enum dtype half = c->dtype != DTYPE_F32 ? c->dtype : p[HALF] ? DTYPE_BF16 : DTYPE_F16;
    enum dtype from = p[NARROW] ? DTYPE_F32 : half, to = p[NARROW] ? half : DTYPE_F32;
    struct tensor *drawn = tensor_new(c->device[REF], DTYPE_F32, DIMS(p[COUNT]));
    normals(c, drawn->data, (size_t)p[COUNT], fill_magnitude(c, (enum fill)p[FILL]),
            fill_deviation(c, (enum fill)p[FILL]));
    void *values = xmalloc((size_t)p[COUNT] * dtype_size(from));
    dtype_from_f32(from, values, drawn->data, (size_t)p[COUNT]);
    struct operand *x = input_typed(c, "x", from, DIMS(p[COUNT]), values);
    struct operand *y = output_typed(c, "y", to, DIMS(p[COUNT]));
    tensor_release(drawn);
    free(values);
    work(c, 0, (double)(x->bytes + y->bytes));
    RUN(c, cast, on(x, side), on(y, side));
    bool public = c->device[DEVICE]->compute == half && c->mode == MODE_COMPARE;
    finish(c, public ? cast(c->tape, on(x, DEVICE), to) : NULL);
    check_special(c, from, to);
}

const struct op_test test_cast = {
    OP_TEST(cast),
    .tolerance = 0,
    .parameters = {"count", "half", "narrow", "fill"},
};
