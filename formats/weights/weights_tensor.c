#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/weights/weights_build.h"

#define COUNT_MAX    ((int64_t)1 << 62)
#define REPEATED_MAX ((int64_t)1 << 24)
#define STREAM_BYTES ((size_t)64 << 10)

/* Elements; -1 if a size is negative or the product exceeds COUNT_MAX. */
static int64_t shape_count(int ndim, const int64_t *shape)
{
    int64_t n = 1;
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return -1;
        empty |= shape[i] == 0;
        if (shape[i] > 0 && n > COUNT_MAX / shape[i])
            return -1;
        n *= shape[i] > 0 ? shape[i] : 1;
    }
    return empty ? 0 : n;
}

const char *weight_type(const struct weight *t)
{
    return t->unreadable ? t->unreadable : dtype_name(t->dtype);
}

bool weight_is_real(const struct weight *t)
{
    return !t->unreadable && t->dtype != DTYPE_C64;
}

int64_t shape_bytes(int ndim, const int64_t *shape, enum dtype dtype)
{
    int64_t n = shape_count(ndim, shape), size = (int64_t)dtype_size(dtype);
    return n < 0 || n > COUNT_MAX / size ? -1 : n * size;
}

bool weight_set_unreadable(struct weight *t, const char *type)
{
    t->unreadable = type;
    t->dtype = DTYPE_U8;
    t->data = NULL;
    t->contiguous = false;
    if (shape_count(t->ndim, t->shape) < 0)
        return false;
    weight_set_row_major(t);
    return true;
}

bool weight_fits(const struct weight *t, size_t data_bytes)
{
    if (shape_bytes(t->ndim, t->shape, t->dtype) < 0)
        return false;
    if (weight_count(t) == 0)
        return true;
    size_t room = data_bytes / dtype_size(t->dtype);
    if (room == 0)
        return false;
    if (weight_count(t) > REPEATED_MAX && (size_t)weight_count(t) > room)
        return false; /* strides that repeat elements could expand a few bytes to terabytes */
    size_t last = 0;  /* index of the farthest element; last < room holds throughout */
    for (int i = 0; i < t->ndim; i++) {
        size_t steps = (size_t)t->shape[i] - 1;
        if (t->stride[i] < 0)
            return false;
        size_t stride = (size_t)t->stride[i];
        if (steps > 0 && stride > (room - 1 - last) / steps)
            return false;
        last += steps * stride;
    }
    return true;
}

void weight_update_contiguous(struct weight *t)
{
    int64_t expected = 1;
    t->contiguous = !t->unreadable && (uintptr_t)t->data % dtype_size(t->dtype) == 0;
    if (weight_count(t) == 0)
        return;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] > 1 && t->stride[i] != expected)
            t->contiguous = false;
        expected *= t->shape[i];
    }
}

void weight_set_row_major(struct weight *t)
{
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        t->stride[i] = stride;
        stride *= t->shape[i] > 0 ? t->shape[i] : 1;
    }
    weight_update_contiguous(t);
}

int64_t weight_count(const struct weight *t)
{
    return shape_count(t->ndim, t->shape);
}

size_t weight_bytes(const struct weight *t)
{
    return (size_t)weight_count(t) * dtype_size(t->dtype);
}

/* Copies n elements that lie `stride` elements apart. */
static void gather(uint8_t *dst, const uint8_t *src, size_t n, int64_t stride, size_t size)
{
    if (stride == 1) {
        memcpy(dst, src, n * size);
        return;
    }
    size_t step = (size_t)stride * size;
    switch (size) {
    case 1:
        for (size_t i = 0; i < n; i++)
            dst[i] = src[i * step];
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + 2 * i, src + i * step, 2);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + 4 * i, src + i * step, 4);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + i * size, src + i * step, size);
    }
}

static int stream_contiguous(const struct weight *t,
                             int (*f)(void *arg, const void *data, size_t count), void *arg)
{
    const size_t size = dtype_size(t->dtype), most = ((size_t)4 << 20) / size;
    size_t n = (size_t)weight_count(t);
    for (size_t i = 0; i < n; i += most) {
        int status = f(arg, (const uint8_t *)t->data + i * size, n - i < most ? n - i : most);
        if (status != 0)
            return status;
    }
    return 0;
}

int weight_stream(const struct weight *t, int (*f)(void *arg, const void *data, size_t count),
                  void *arg)
{
    CHECK(!t->unreadable);
    if (weight_count(t) == 0)
        return 0;
    if (t->contiguous)
        return stream_contiguous(t, f, arg);
    const size_t size = dtype_size(t->dtype), room = STREAM_BYTES / size;
    const int last = t->ndim - 1;
    const size_t row = last < 0 ? 1 : (size_t)t->shape[last];
    const int64_t row_stride = last < 0 ? 1 : t->stride[last];
    int64_t index[WEIGHT_MAX_DIMS] = {0};
    const uint8_t *at = t->data;
    uint8_t *buffer = xmalloc(STREAM_BYTES);
    size_t filled = 0;
    int status = 0, d;
    do {
        for (size_t x = 0; x < row && status == 0;) {
            size_t n = row - x < room - filled ? row - x : room - filled;
            gather(buffer + filled * size, at + x * (size_t)row_stride * size, n, row_stride, size);
            filled += n;
            x += n;
            if (filled == room) {
                status = f(arg, buffer, filled);
                filled = 0;
            }
        }
        for (d = last - 1; d >= 0; d--) { /* the next row */
            at += (size_t)t->stride[d] * size;
            if (++index[d] < t->shape[d])
                break;
            at -= (size_t)t->shape[d] * (size_t)t->stride[d] * size;
            index[d] = 0;
        }
    } while (d >= 0 && status == 0);
    if (status == 0 && filled > 0)
        status = f(arg, buffer, filled);
    free(buffer);
    return status;
}

struct conversion {
    enum dtype dtype;
    float *dst;
};

static int convert_run(void *arg, const void *data, size_t count)
{
    struct conversion *c = arg;
    dtype_to_f32(c->dst, c->dtype, data, count);
    c->dst += count;
    return 0;
}

void weight_to_f32(const struct weight *t, float *dst)
{
    struct conversion c = {t->dtype, dst};
    weight_stream(t, convert_run, &c);
}

void weight_print_shape(char *text, size_t size, int ndim, const int64_t *shape)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < ndim && at < size; i++) {
        const char *separator = i ? "x" : "";
        at += (size_t)(shape[i] < 0
                           ? snprintf(text + at, size - at, "%s?", separator)
                           : snprintf(text + at, size - at, "%s%" PRId64, separator, shape[i]));
    }
    if (ndim == 0)
        snprintf(text, size, "a single number");
}
