#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/dtype.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "kernels/tape.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

/* Working weights are compared bit by bit: the same numbers, rounded once. */

static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

struct pair {
    struct tensor *from, *to;
    unsigned char *expected;
};

static size_t bytes_of(const struct tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

/* The position in t of element i in checkpoint order. */
static size_t place(const struct tensor *t, size_t i)
{
    if (!t->channels_last)
        return i;
    size_t ci = (size_t)t->shape[1], k = (size_t)(t->shape[2] * t->shape[3]);
    size_t tap = i % k, c = i / k % ci, co = i / k / ci;
    return (co * k + tap) * ci + c;
}

static struct tensor *new_tensor(struct device *d, enum dtype type, int ndim, const int64_t *shape,
                                 bool channels_last)
{
    struct tensor *t = tensor_new(d, type, ndim, shape);
    t->channels_last = channels_last;
    return t;
}

static struct pair pair_new(struct device *d, const struct pair *like)
{
    struct pair p = *like;
    size_t n = (size_t)tensor_count(p.from), from_size = dtype_size(p.from->dtype);
    size_t to_size = dtype_size(p.to->dtype);
    static uint64_t sample;
    float *x = xmalloc((n + 1) * sizeof *x), back;
    unsigned char *stored = xmalloc(bytes_of(p.from) + 1);
    rng_normal(x, n, 1, RNG_INITIAL_WEIGHTS, 0, ++sample, 0);
    p.expected = xmalloc(bytes_of(p.to) + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char *at = stored + place(p.from, i) * from_size;
        dtype_from_f32(p.from->dtype, at, &x[i], 1);
        dtype_to_f32(&back, p.from->dtype, at, 1);
        dtype_from_f32(p.to->dtype, p.expected + place(p.to, i) * to_size, &back, 1);
    }
    d->backend->upload(d, p.from->data, stored, bytes_of(p.from));
    free(stored);
    free(x);
    return p;
}

static bool pair_is_right(struct device *d, const struct pair *p)
{
    unsigned char *got = xmalloc(bytes_of(p->to) + 1);
    d->backend->download(d, got, p->to->data, bytes_of(p->to));
    bool right = !memcmp(got, p->expected, bytes_of(p->to));
    if (!right)
        tap_diag("wrong: %s to %s, [%" PRId64 ", %" PRId64 ", ...]", dtype_name(p->from->dtype),
                 dtype_name(p->to->dtype), p->from->shape[0], p->from->shape[1]);
    free(got);
    return right;
}

static void pair_free(struct pair *p)
{
    tensor_release(p->from);
    tensor_release(p->to);
    free(p->expected);
}

static void convert(struct device *d, const struct pair *pairs, int count)
{
    const struct tensor **from = xcalloc((size_t)count, sizeof *from);
    struct tensor **to = xcalloc((size_t)count, sizeof *to);
    for (int i = 0; i < count; i++) {
        from[i] = pairs[i].from;
        to[i] = pairs[i].to;
    }
    struct convert_weights_args a = {count, from, to};
    d->backend->convert_weights(d, &a);
    free(from);
    free(to);
}

static const int64_t shapes[][4] = {
    {1, 1, 1, 1},    {1, 1, 3, 3},    {5, 7, 3, 3},   {64, 64, 3, 3},  {3, 513, 3, 3},
    {2, 1100, 3, 3}, {130, 4, 3, 3},  {4, 130, 3, 3}, {9, 40, 1, 1},   {300, 200, 1, 1},
    {6, 3, 32, 32},  {10, 3, 7, 5},   {7, 33, 4, 4},  {3, 12, 2, 1},   {600, 2, 3, 3},
    {2, 2, 33, 1},   {1, 5000, 1, 2}, {31, 1, 4, 4},  {8, 1030, 1, 1}, {2, 300, 5, 7},
};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

/* All shapes at once, for each pair of types and orders. */
static void each_form(struct device *d, enum dtype a, enum dtype b)
{
    static const bool orders[][2] = {{false, false}, {false, true}, {true, false}, {true, true}};
    static const char *const named[] = {"unchanged layout", "to channels last",
                                        "from channels last", "channels last"};
    for (int o = 0; o < 4; o++) {
        struct pair pairs[SHAPES];
        bool right = true;
        for (int i = 0; i < SHAPES; i++) {
            struct pair like = {new_tensor(d, a, 4, shapes[i], orders[o][0]),
                                new_tensor(d, b, 4, shapes[i], orders[o][1]), NULL};
            pairs[i] = pair_new(d, &like);
        }
        convert(d, pairs, SHAPES);
        for (int i = 0; i < SHAPES; i++) {
            right &= pair_is_right(d, &pairs[i]);
            pair_free(&pairs[i]);
        }
        tap_ok(right, "%s to %s, %s: %d shapes", dtype_name(a), dtype_name(b), named[o], SHAPES);
    }
}

/* Weights at arbitrary offsets in one array, of all forms, more than fit in one launch. */
static void many(struct device *d)
{
    enum { COUNT = 450, FLOATS = 2000000 };
    struct tensor *parameters = tensor_new(d, DTYPE_F32, DIMS(FLOATS));
    struct pair pairs[COUNT];
    size_t at = 0;
    bool right = true;
    for (int i = 0; i < COUNT; i++) {
        int64_t shape[4] = {1 + i % 7, 1 + i % 91, i % 3 ? 3 : 1, i % 3 ? 3 : 1};
        struct pair like;
        like.from = tensor_borrow(d, DTYPE_F32, 4, shape, (float *)parameters->data + at);
        like.to = new_tensor(d, types[i % 5 % 3], 4, shape, i % 4 != 0);
        at += (size_t)tensor_count(like.from);
        CHECK(at <= FLOATS);
        pairs[i] = pair_new(d, &like);
    }
    convert(d, pairs, COUNT);
    for (int i = 0; i < COUNT; i++) {
        right &= pair_is_right(d, &pairs[i]);
        pair_free(&pairs[i]);
    }
    tensor_release(parameters);
    tap_ok(right, "%d weights of all forms", COUNT);
    int64_t large[2] = {700, 701};
    struct pair like = {tensor_new(d, DTYPE_F32, 2, large), tensor_new(d, DTYPE_F16, 2, large),
                        NULL};
    struct pair p = pair_new(d, &like);
    convert(d, &p, 1);
    tap_ok(pair_is_right(d, &p), "a matrix of many blocks");
    pair_free(&p);
    convert(d, &p, 0);
}

/* Rounding at the edges of the types. */
static void extremes(struct device *d)
{
    static const float values[] = {0,       -0.0f,    1e-8f,     6e-8f,      65504,  65519,
                                   65520,   -1e6f,    3.39e38f,  3.4028e38f, 1e-40f, 1.0009765625f,
                                   1.0029f, INFINITY, -INFINITY, 1.00390625f};
    int64_t n = sizeof values / sizeof *values;
    bool right = true;
    for (int i = 1; i < 3; i++) {
        uint16_t expected[16], got[16];
        struct pair p = {tensor_from_f32(d, 1, &n, values), tensor_new(d, types[i], 1, &n), NULL};
        convert(d, &p, 1);
        d->backend->download(d, got, p.to->data, sizeof got);
        dtype_from_f32(types[i], expected, values, (size_t)n);
        right &= !memcmp(expected, got, sizeof got);
        pair_free(&p);
    }
    tap_ok(right, "largest, smallest and halfway values");
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    emulated_cuda();
    struct device *d;
    struct error e;
    if (device_open(&d, "cuda", &e) != 0)
        die("%s", e.text);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            each_form(d, types[i], types[j]);
    many(d);
    extremes(d);
    tap_ok(device_memory(d).in_use == 0, "all memory is released");
    device_close(d);
    return tap_done();
}
