#include "tests/op/checker.h"

#include "common/base/rng.h"

/* Every other sample from FIRST on, each of the next step, from STEP on. */
enum { N, COUNT, PURPOSE, STEP, FIRST };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, RNG_POSTERIOR, 0, 0},
    {3, 4096, RNG_POSTERIOR, 7, 1000},
    {5, 37, RNG_SAMPLER_NOISE, 1, INT64_C(1) << 33},
    {2, 4098, RNG_POSTERIOR, (1 << 26) - 2, 12345},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4096, RNG_POSTERIOR, 1, 0},
    {64, 4096, RNG_POSTERIOR, 1, 0},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[COUNT] = between(c, 1, 600);
    p[PURPOSE] = between(c, RNG_SAMPLER_NOISE, RNG_POSTERIOR);
    p[STEP] = between(c, 0, 1000000);
    p[FIRST] = between(c, 0, 1000000);
}

static void run(struct check *c, const int64_t *p)
{
    int64_t draws[2 * 64];
    uint64_t seed = (uint64_t)between(c, 0, INT64_MAX - 1);
    for (int64_t i = 0; i < p[N]; i++) {
        draws[2 * i] = p[FIRST] + 2 * i;
        draws[2 * i + 1] = p[STEP] + i;
    }
    struct operand *of = input_typed(c, "draws", DTYPE_I64, DIMS(p[N], 2), draws);
    struct operand *y = output(c, DIMS(p[N], p[COUNT]));
    work(c, 0, (double)y->bytes);
    RUN(c, normals, seed, (int)p[PURPOSE], on(of, side), on(y, side));
    finish(c, NULL);
}

const struct op_test test_normals = {
    OP_TEST(normals),
    .tolerance = 0,
    .f32_only = true,
    .parameters = {"n", "count", "purpose", "step", "first"},
};
