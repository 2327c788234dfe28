#include "kernels/pool.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

#define BLOCKS 400

static uint64_t state = 1;

static uint64_t draw(uint64_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % below;
}

struct held {
    char *data;
    size_t bytes, granted;
    char mark;
};

static void hold(struct device *d, struct held *h, size_t bytes, char mark)
{
    h->data = device_allocate(d, bytes, &h->granted);
    h->bytes = bytes;
    h->mark = mark;
    memset(h->data, mark, bytes);
}

static bool intact(const struct held *h)
{
    for (size_t i = 0; i < h->bytes; i++)
        if (h->data[i] != h->mark)
            return false;
    return true;
}

static size_t some_bytes(void)
{
    return draw(8) ? draw(5000) : draw(3000000);
}

/* Random requests and returns: no block overlaps another. */
static void apart(struct device *d)
{
    static struct held held[BLOCKS];
    bool ok = true, aligned = true;
    for (int round = 0; round < 20000; round++) {
        struct held *h = &held[draw(BLOCKS)];
        if (h->data) {
            ok &= intact(h);
            device_release(d, h->data, h->granted);
            h->data = NULL;
        } else {
            hold(d, h, some_bytes(), (char)round);
            aligned &= (uintptr_t)h->data % 64 == 0 && h->granted >= h->bytes;
        }
    }
    size_t sum = 0;
    for (int i = 0; i < BLOCKS; i++)
        sum += held[i].data ? held[i].granted : 0;
    tap_ok(device_memory(d).in_use == sum, "bytes in use add up");
    for (int i = 0; i < BLOCKS; i++)
        if (held[i].data) {
            ok &= intact(&held[i]);
            device_release(d, held[i].data, held[i].granted);
        }
    tap_ok(ok, "blocks do not overlap");
    tap_ok(aligned, "blocks are aligned to 64 bytes and as large as requested");
    struct device_memory m = device_memory(d);
    tap_ok(m.in_use == 0 && m.peak >= sum, "all memory is returned");
    device_trim(d);
    tap_ok(device_memory(d).idle == 0, "adjacent blocks were merged: every region can be returned");
}

static int allocations;
static const struct backend *plain;

static void *counted(struct device *d, size_t bytes)
{
    allocations++;
    return plain->allocate(d, bytes);
}

/* A repeated step requests nothing from the system and gets the same addresses, whatever its sizes.
 */
static void repeated(struct device *d)
{
    enum { COUNT = 60, STEPS = 6 };
    static char *first[COUNT];
    static struct held held[COUNT];
    struct backend counting = *plain;
    counting.allocate = counted;
    d->backend = &counting;
    bool same = true;
    int before_last = 0;
    for (int step = 0; step < STEPS; step++) {
        before_last = allocations;
        state = 77;
        for (int i = 0; i < COUNT; i++) {
            hold(d, &held[i], 100000 + draw(9000000), (char)i);
            if (i % 3 == 2) { /* a temporary one */
                device_release(d, held[i - 1].data, held[i - 1].granted);
                held[i - 1].data = NULL;
            }
            if (step == STEPS - 2)
                first[i] = held[i].data;
            else if (step == STEPS - 1)
                same &= first[i] == held[i].data;
        }
        for (int i = 0; i < COUNT; i++)
            if (held[i].data)
                device_release(d, held[i].data, held[i].granted);
    }
    d->backend = plain;
    tap_ok(allocations > 0 && allocations == before_last, "a repeated step requests no new memory");
    tap_ok(same, "and gets the same addresses");
    struct device_memory m = device_memory(d);
    tap_ok((double)m.idle <= 1.25 * (double)m.peak, "%zu MB held for a peak of %zu MB",
           m.idle >> 20, m.peak >> 20);
}

static void dry(void)
{
    struct device *like, *d;
    struct error e;
    CHECK(device_open(&like, "cpu", &e) == 0);
    d = device_open_dry(like);
    size_t a, b;
    void *x = device_allocate(d, (size_t)1 << 40, &a), *y = device_allocate(d, 10, &b);
    tap_ok(x != y && device_memory(d).peak == a + b && a >= (size_t)1 << 40,
           "a dry device accounts for a terabyte");
    device_release(d, x, a);
    device_release(d, y, b);
    tap_ok(device_memory(d).in_use == 0, "and for its release");
    device_close(like);
    device_close(d);
}

/* What ops of a GPU take while they run. */
static void dry_gpu(void)
{
    enum { N = 4096, WIDTH = 512 };
    struct device *like, *d;
    struct error e;
    emulated_cuda();
    if (device_open(&like, "cuda", &e) != 0 || device_set_precision(like, "bf16", false, &e) != 0)
        die("%s", e.text);
    d = device_open_dry(like);
    struct tensor *x = tensor_new(d, DTYPE_F32, DIMS(N, WIDTH));
    size_t operands = device_memory(d).peak;
    d->backend->cloob_loss(d, &(struct cloob_loss_args){.image = x, .text = x});
    tap_ok(device_memory(d).peak - operands >= (size_t)3 * N * N * sizeof(float),
           "CLOOB's loss takes %zu MB besides its operands",
           (device_memory(d).peak - operands) >> 20);
    tensor_release(x);
    device_close(d);
    d = device_open_dry(like);
    struct tensor *w = weight_from_host(d, DTYPE_F32, DIMS(1024, 1024, 3, 3), NULL);
    size_t bytes = (size_t)tensor_count(w) * 2, peak = device_memory(d).peak;
    tap_ok(peak >= bytes && peak < bytes + ((size_t)26 << 20),
           "a weight of %zu MB in F32 takes %zu MB while it is loaded", bytes >> 19, peak >> 20);
    tensor_release(w);
    device_close(d);
    device_close(like);
}

int main(void)
{
    struct device *d;
    struct error e;
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    plain = d->backend;
    apart(d);
    repeated(d);
    dry();
    dry_gpu();
    device_close(d);
    return tap_done();
}
