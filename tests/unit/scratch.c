/* What a dry run counts for ops of the CPU is what they take, up to a few percent. */
#include <inttypes.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/backward.h"
#include "kernels/device.h"
#include "tests/support/tap.h"

/* n images of side x side pixels, or as many rows; in and out: channels. */
struct sizes {
    int64_t n, side, in, out;
};

static void zero(struct tensor *t)
{
    if (t && !t->device->dry)
        memset(t->data, 0, t->bytes);
}

/* What is in use before the op runs. */
static size_t begin(struct tensor *const *operands, int count)
{
    for (int i = 0; i < count; i++)
        zero(operands[i]);
    return device_memory(operands[0]->device).in_use;
}

/* Bytes that the op has taken besides its operands, which are released. */
static size_t end(struct tensor *const *operands, int count, size_t before)
{
    size_t taken = device_memory(operands[0]->device).peak - before;
    for (int i = 0; i < count; i++)
        tensor_release(operands[i]);
    return taken;
}

static size_t of_conv2d(struct device *d, const struct sizes *s)
{
    struct tensor *x = tensor_new(d, DTYPE_BF16, DIMS(s->n, s->side, s->side, s->in));
    struct tensor *dx = tensor_new(d, DTYPE_BF16, DIMS(s->n, s->side, s->side, s->in));
    struct tensor *dy = tensor_new(d, DTYPE_BF16, DIMS(s->n, s->side, s->side, s->out));
    struct tensor *weight = tensor_new(d, DTYPE_F32, DIMS(s->out, s->in, 3, 3));
    struct tensor *dweight = tensor_new(d, DTYPE_F32, DIMS(s->out, s->in, 3, 3));
    struct tensor *all[] = {x, dx, dy, weight, dweight};
    size_t before = begin(all, 5);
    struct conv2d_backward_args a = {
        .forward = {.x = x, .weight = weight, .y = dy, .stride = 1, .pad_begin = 1, .pad_end = 1},
        .dy = dy,
        .dx = dx,
        .dweight = dweight,
        .fresh = true};
    d->backend->conv2d_backward(d, &a);
    return end(all, 5, before);
}

static size_t of_linear(struct device *d, const struct sizes *s)
{
    struct tensor *x = tensor_new(d, DTYPE_BF16, DIMS(s->n, s->in));
    struct tensor *dy = tensor_new(d, DTYPE_BF16, DIMS(s->n, s->out));
    struct tensor *weight = tensor_new(d, DTYPE_F32, DIMS(s->out, s->in));
    struct tensor *dweight = tensor_new(d, DTYPE_F32, DIMS(s->out, s->in));
    struct tensor *all[] = {x, dy, weight, dweight};
    size_t before = begin(all, 4);
    struct linear_backward_args a = {.forward = {.x = x, .weight = weight, .y = dy},
                                     .dy = dy,
                                     .dweight = dweight,
                                     .fresh = true};
    d->backend->linear_backward(d, &a);
    return end(all, 4, before);
}

static void check(const char *op, size_t (*take)(struct device *d, const struct sizes *s),
                  const struct sizes *s)
{
    struct device *d, *dry;
    struct error e;
    if (device_open(&d, "cpu", &e) != 0 || device_set_precision(d, "bf16", false, &e) != 0)
        die("%s", e.text);
    dry = device_open_dry(d);
    size_t counted = take(dry, s), taken = take(d, s);
    const size_t small = (size_t)16 << 10;
    tap_ok(counted + small >= taken && (double)counted <= 1.05 * (double)taken + (double)small,
           "%s of %" PRId64 " x %" PRId64 ", %" PRId64 " to %" PRId64 ": %zu kB, counted %zu", op,
           s->n, s->side, s->in, s->out, taken >> 10, counted >> 10);
    device_close(dry);
    device_close(d);
}

int main(int argc, char **argv)
{
    static const struct sizes convolutions[] = {{1, 4, 768, 768}, {8, 5, 512, 512},
                                                {4, 8, 256, 256}, {2, 32, 64, 96},
                                                {1, 64, 3, 64},   {2, 16, 128, 4}};
    static const struct sizes linears[] = {
        {40000, 1, 512, 1024}, {40000, 1, 129, 51}, {300, 1, 768, 512}};
    message_init(argv[0]);
    threads_init(2);
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++)
        check("gradients of a convolution", of_conv2d, &convolutions[i]);
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++)
        check("gradients of a linear layer", of_linear, &linears[i]);
    return tap_done();
}
