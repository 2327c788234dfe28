#include "tests/op/checker.h"

/* The scale is SCALE / 1000. */
enum { N, Z, H, W, SCALE, FILL };

static const int64_t sweep[][MAX_PARAMETERS] = {
    {1, 1, 1, 1, 1000, FILL_NORMAL},  {2, 4, 3, 5, 8078, FILL_NORMAL},
    {3, 4, 8, 8, 500, FILL_NORMAL},   {2, 4, 3, 5, 9315, FILL_WIDE},
    {9, 4, 32, 32, 2550, FILL_SMALL},
};

static const int64_t bench[][MAX_PARAMETERS] = {
    {8, 4, 32, 32, 8078, FILL_NORMAL},
    {64, 4, 32, 32, 8078, FILL_NORMAL},
};

static void draw(struct check *c, int64_t *p)
{
    p[N] = between(c, 1, 9);
    p[Z] = between(c, 1, 5);
    p[H] = between(c, 1, 20);
    p[W] = between(c, 1, 20);
    p[SCALE] = between(c, 100, 20000);
    p[FILL] = coin(c) ? FILL_NORMAL : FILL_SMALL;
}

static void run(struct check *c, const int64_t *p)
{
    struct operand *moments =
        activations(c, "moments", (enum fill)p[FILL], DIMS(p[N], 2 * p[Z], p[H], p[W]));
    struct operand *posterior =
        activations(c, "posterior_noise", FILL_NORMAL, DIMS(p[N], p[Z], p[H], p[W]));
    struct operand *noise = activations(c, "noise", FILL_NORMAL, DIMS(p[N], p[Z], p[H], p[W]));
    struct operand *alpha = parameter(c, "alpha", 0.5, 0.2, p[N]);
    struct operand *sigma = parameter(c, "sigma", 0.5, 0.2, p[N]);
    struct operand *noisy = output_named(c, "noisy", DIMS(p[N], p[Z], p[H], p[W]));
    struct operand *target = output_named(c, "target", DIMS(p[N], p[Z], p[H], p[W]));
    float scale = (float)p[SCALE] / 1000;
    c->magnitude = 1;
    work(c, 0, (double)(moments->bytes + 4 * noise->bytes));
    RUN(c, noised_latents, on(moments, side), on(posterior, side), on(noise, side), on(alpha, side),
        on(sigma, side), scale, on(noisy, side), on(target, side));
    finish(c, NULL);
}

const struct op_test test_noised_latents = {
    OP_TEST(noised_latents),
    .tolerance = 1e-6,
    .f32_only = true,
    .parameters = {"n", "z", "h", "w", "scale", "fill"},
};
