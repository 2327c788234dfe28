/* The clock of a device's queue: which key and which part an interval's time belongs to. */
#include <string.h>

#include "common/base/message.h"
#include "kernels/device.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

enum { BETWEEN, CONV, BACKWARD, KEYS };

static struct tensor *filled(struct device *d, int ndim, const int64_t *shape)
{
    struct tensor *t = tensor_new(d, DTYPE_F32, ndim, shape);
    struct fill_args a = {tensor_count(t), t->data, 0.5f};
    d->backend->fill(d, &a);
    return t;
}

/* A convolution forward and backward, with laps around them. */
static void work(struct device *d)
{
    struct tensor *x = filled(d, DIMS(2, 16, 16, 8));
    struct tensor *weight = filled(d, DIMS(8, 8, 3, 3)), *dweight = filled(d, 4, weight->shape);
    struct tensor *bias = filled(d, DIMS(8)), *dbias = filled(d, DIMS(8));
    struct tensor *y = filled(d, 4, x->shape), *dx = filled(d, 4, x->shape);
    struct conv2d_args a = {.x = x, .weight = weight, .bias = bias, .y = y, .stride = 1};
    a.pad_begin = a.pad_end = 1;
    struct conv2d_backward_args back = {.forward = a, .dy = y, .dx = dx, .dweight = dweight};
    back.dbias = dbias;
    const struct backend *b = d->backend;
    b->lap(d, BETWEEN);
    b->conv2d(d, &a);
    b->lap(d, CONV);
    b->lap(d, BETWEEN);
    b->conv2d_backward(d, &back);
    b->lap(d, BACKWARD);
    struct tensor *all[] = {x, weight, dweight, bias, dbias, y, dx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tensor_release(all[i]);
}

static double sum(const double *seconds)
{
    double total = 0;
    for (int part = 0; part < PART_COUNT; part++)
        total += seconds[part];
    return total;
}

static void check(struct device *d)
{
    double seconds[KEYS][PART_COUNT] = {{0}}, again[KEYS][PART_COUNT] = {{0}};
    d->backend->laps(d, seconds);
    tap_ok(sum(seconds[BETWEEN]) == 0, "no laps, no times");
    work(d);
    d->backend->laps(d, seconds);
    tap_ok(sum(seconds[CONV]) > 0 && sum(seconds[CONV]) == seconds[CONV][PART_OTHER],
           "an op without parts: %g s", seconds[CONV][PART_OTHER]);
    const double *back = seconds[BACKWARD];
    tap_ok(back[PART_INPUT_GRADIENT] > 0 && back[PART_WEIGHT_GRADIENT] > 0 &&
               back[PART_WEIGHT_SUM] > 0 && back[PART_BIAS_GRADIENT] > 0,
           "a convolution's gradients are parts of it");
    tap_ok(sum(seconds[BETWEEN]) == seconds[BETWEEN][PART_OTHER], "what lies between ops has none");
    d->backend->laps(d, again);
    tap_ok(sum(again[BACKWARD]) == 0, "times are told once");
    work(d);
    d->backend->laps(d, again);
    tap_ok(again[BACKWARD][PART_WEIGHT_SUM] > 0, "laps go on");
}

int main(int argc, char **argv)
{
    struct device *d;
    struct error e;
    message_init(argv[0]);
    emulated_cuda();
    if (device_open(&d, "cuda", &e) != 0)
        die("%s", e.text);
    check(d);
    device_close(d);
    return tap_done();
}
