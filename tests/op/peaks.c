#include "tests/op/checker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/rng.h"
#include "tests/support/subject.h"

/* The best rates that the device reaches through the backend, to which other rates are compared. */
enum { PRODUCT = 8192, ROWS = 1 << 14, COLUMNS = 1 << 14, ROUNDS = 5, RUNS = 8 };

static double seconds_of_run(struct device *d, void (*run)(struct device *d, void *args),
                             void *args)
{
    double best = INFINITY;
    run(d, args);
    for (int round = 0; round < ROUNDS; round++) {
        device_synchronize(d);
        double begun = seconds_now();
        for (int i = 0; i < RUNS; i++)
            run(d, args);
        device_synchronize(d);
        best = fmin(best, (seconds_now() - begun) / RUNS);
    }
    return best;
}

static void run_linear(struct device *d, void *args)
{
    d->backend->linear(d, args);
}

static void run_add(struct device *d, void *args)
{
    d->backend->add(d, args);
}

/* Zeros would give too good a rate: they cost less power. */
static struct tensor *noise(struct device *d, enum dtype dtype, int64_t rows, int64_t columns)
{
    struct tensor *draws = tensor_new(d, DTYPE_I64, DIMS(rows, 2));
    int64_t *host = xcalloc(2 * (size_t)rows, sizeof *host);
    for (int64_t i = 0; i < rows; i++)
        host[2 * i] = i;
    tensor_upload(draws, host);
    struct tensor *normal = tensor_new(d, DTYPE_F32, DIMS(rows, columns));
    d->backend->normals(d, &(struct normals_args){1, RNG_SAMPLER_NOISE, draws, normal});
    free(host);
    tensor_release(draws);
    if (dtype == DTYPE_F32)
        return normal;
    struct tensor *t = tensor_new(d, dtype, DIMS(rows, columns));
    d->backend->cast(d, &(struct cast_args){normal, t});
    tensor_release(normal);
    return t;
}

static double product_flops(struct device *d, enum dtype dtype)
{
    struct tensor *x = noise(d, dtype, PRODUCT, PRODUCT);
    struct tensor *w = noise(d, dtype, PRODUCT, PRODUCT);
    struct tensor *y = tensor_new(d, dtype, DIMS(PRODUCT, PRODUCT));
    struct linear_args args = {x, w, NULL, y, ACTIVATION_NONE, NULL};
    double seconds = seconds_of_run(d, run_linear, &args);
    tensor_release(x);
    tensor_release(w);
    tensor_release(y);
    return 2.0 * PRODUCT * PRODUCT * PRODUCT / seconds;
}

static double sum_bytes(struct device *d)
{
    struct tensor *a = noise(d, DTYPE_F32, ROWS, COLUMNS), *b = noise(d, DTYPE_F32, ROWS, COLUMNS);
    struct tensor *y = tensor_new(d, DTYPE_F32, DIMS(ROWS, COLUMNS));
    struct add_args args = {a, b, y};
    double seconds = seconds_of_run(d, run_add, &args);
    tensor_release(a);
    tensor_release(b);
    tensor_release(y);
    return 3.0 * ROWS * COLUMNS * sizeof(float) / seconds;
}

void measure_peaks(struct check *c)
{
    struct device *d = c->device[DEVICE];
    if (!d->backend->synchronize || subject_small())
        return;
    c->peak_bytes = sum_bytes(d);
    for (enum dtype t = DTYPE_F32; t <= DTYPE_BF16; t++)
        c->peak_flops[t] = product_flops(d, t);
    device_trim(d);
    printf("peaks: %.0f GB/s; %.1f TFLOP/s F32, %.1f F16, %.1f BF16\n", c->peak_bytes * 1e-9,
           c->peak_flops[DTYPE_F32] * 1e-12, c->peak_flops[DTYPE_F16] * 1e-12,
           c->peak_flops[DTYPE_BF16] * 1e-12);
}
