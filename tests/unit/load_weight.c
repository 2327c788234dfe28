/* Weights from host memory to a GPU, which the emulator stands for, in pieces: bit by bit what the
 * host converts, whatever the order of work that no event orders. */
#include "kernels/weight.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/device.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

/* Numbers that 16 bits round, of both signs. */
static float value(size_t i)
{
    return (float)(((int64_t)(i * 2654435761u % 20011) - 10005) / 7.0);
}

/* The position of element i of a weight in a tensor of this order. */
static size_t place(const struct tensor *t, size_t i)
{
    if (!t->channels_last)
        return i;
    size_t ci = (size_t)t->shape[1], k = (size_t)(t->shape[2] * t->shape[3]);
    size_t tap = i % k, c = i / k % ci, co = i / k / ci;
    return (co * k + tap) * ci + c;
}

/* Fills memory of the pool without waiting, and gives it back: what comes next gets it. */
static void busy(struct device *d, size_t bytes)
{
    struct tensor *t = tensor_new(d, DTYPE_F32, DIMS((int64_t)(bytes / sizeof(float))));
    for (int i = 0; i < 3; i++)
        d->backend->fill(d, &(struct fill_args){tensor_count(t), t->data, 99});
    tensor_release(t);
}

static bool is_right(const struct tensor *t, const unsigned char *stored, enum dtype dtype)
{
    size_t n = (size_t)tensor_count(t), from = dtype_size(dtype), to = dtype_size(t->dtype);
    unsigned char *got = xmalloc(n * to), wanted[sizeof(float)];
    size_t wrong = 0;
    t->device->backend->download(t->device, got, t->data, n * to);
    for (size_t i = 0; i < n; i++) {
        float x;
        dtype_to_f32(&x, dtype, stored + i * from, 1);
        dtype_from_f32(t->dtype, wanted, &x, 1);
        wrong += memcmp(got + place(t, i) * to, wanted, to) != 0;
    }
    free(got);
    if (wrong)
        tap_diag("%zu of %zu elements are wrong", wrong, n);
    return wrong == 0;
}

static bool loads(struct device *d, enum dtype dtype, const int64_t *shape)
{
    int ndim = shape[2] ? 4 : 2;
    size_t n = (size_t)(shape[0] * shape[1] * (shape[2] ? shape[2] * shape[3] : 1));
    size_t bytes = n * dtype_size(dtype);
    unsigned char *stored = xmalloc(bytes), *host = xmalloc(bytes);
    for (size_t i = 0; i < n; i++) {
        float x = value(i);
        dtype_from_f32(dtype, stored + i * dtype_size(dtype), &x, 1);
    }
    memcpy(host, stored, bytes);
    busy(d, (size_t)64 << 20);
    struct tensor *t = weight_from_host(d, dtype, ndim, shape, host);
    memset(host, 0x5a, bytes); /* which the caller may */
    busy(d, (size_t)64 << 20);
    bool right = is_right(t, stored, dtype);
    tensor_release(t);
    free(stored);
    free(host);
    return right;
}

int main(void)
{
    static const int64_t shapes[][4] = {
        {1501, 600, 3, 3}, /* of more pieces than there are at once */
        {700, 130, 3, 3},  {501, 4099, 0, 0}, {3, 700001, 0, 0}, /* slices larger than a piece */
        {20, 30, 3, 3},    {7, 9, 0, 0},      {1, 900000, 0, 0},
    };
    static const char *const orders[] = {"early", "late"};
    struct device *d;
    struct error e;
    message_init("load_weight");
    emulated_cuda();
    if (device_open(&d, "cuda", &e) != 0) {
        tap_skip(e.text, "weights on the emulator");
        return tap_done();
    }
    if (device_set_precision(d, "bf16", false, &e) != 0)
        die("%s", e.text);
    for (int o = 0; o < 2; o++) {
        setenv("CCLD_EMULATED_ORDER", orders[o], 1);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (enum dtype dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++)
                if (dtype == DTYPE_F32 || i > 0)
                    tap_ok(loads(d, dtype, shapes[i]),
                           "%s, [%" PRId64 ", %" PRId64 ", ...] of %s: other work is %s",
                           d->backend->name, shapes[i][0], shapes[i][1], dtype_name(dtype),
                           orders[o]);
    }
    tap_ok(device_memory(d).in_use == 0, "all memory was released");
    device_close(d);
    return tap_done();
}
