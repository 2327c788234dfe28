#include "kernels/tensor.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/device.h"

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

int64_t tensor_rows(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return n;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof a->shape[0]);
}

static struct tensor *tensor_header(struct device *d, enum dtype dtype, int ndim,
                                    const int64_t *shape)
{
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIMS);
    struct tensor *t = xcalloc(1, sizeof *t);
    t->device = d;
    t->dtype = dtype;
    t->ndim = ndim;
    t->references = 1;
    for (int i = 0; i < ndim; i++) {
        CHECK(shape[i] >= 0);
        t->shape[i] = shape[i];
    }
    return t;
}

struct tensor *tensor_new(struct device *d, enum dtype dtype, int ndim, const int64_t *shape)
{
    struct tensor *t = tensor_header(d, dtype, ndim, shape);
    t->data = device_allocate(d, (size_t)tensor_count(t) * dtype_size(dtype), &t->bytes);
    return t;
}

struct tensor *tensor_borrow(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                             const void *data)
{
    struct tensor *t = tensor_header(d, dtype, ndim, shape);
    t->data = (void *)data;
    t->borrowed = true;
    return t;
}

static struct tensor *tensor_view(struct tensor *t, int ndim, const int64_t *shape)
{
    struct tensor *view = tensor_header(t->device, t->dtype, ndim, shape);
    view->data = t->data;
    view->borrowed = true;
    view->channels_last = t->channels_last;
    view->base = tensor_retain(t->base ? t->base : t);
    return view;
}

struct tensor *tensor_reshape(struct tensor *t, int ndim, const int64_t *shape)
{
    struct tensor *view = tensor_view(t, ndim, shape);
    CHECK(tensor_count(view) == tensor_count(t));
    return view;
}

struct tensor *tensor_slice(struct tensor *t, int64_t begin, int64_t count)
{
    CHECK(begin >= 0 && count >= 0 && begin + count <= t->shape[0]);
    int64_t shape[TENSOR_MAX_DIMS];
    memcpy(shape, t->shape, sizeof shape);
    shape[0] = count;
    struct tensor *view = tensor_view(t, t->ndim, shape);
    int64_t stride = t->shape[0] ? tensor_count(t) / t->shape[0] : 0;
    view->data = (char *)t->data + (size_t)(begin * stride) * dtype_size(t->dtype);
    return view;
}

struct tensor *tensor_retain(struct tensor *t)
{
    t->references++;
    return t;
}

void tensor_release(struct tensor *t)
{
    if (!t || --t->references > 0)
        return;
    CHECK(t->references == 0);
    if (!t->borrowed)
        device_release(t->device, t->data, t->bytes);
    tensor_release(t->base);
    tensor_release(t->working);
    gradient_release(t->gradient);
    free(t);
}

void tensor_replace(struct tensor **slot, struct tensor *with)
{
    tensor_release(*slot);
    *slot = with;
}

void tensor_require_gradient(struct tensor *t)
{
    if (t->gradient)
        return;
    t->gradient = xcalloc(1, sizeof *t->gradient);
    t->gradient->references = 1;
}

void tensor_set_parameter(struct tensor *t, struct tensor *gradient)
{
    CHECK(t->dtype == DTYPE_F32 && gradient->dtype == DTYPE_F32);
    CHECK(tensor_count(t) == tensor_count(gradient));
    tensor_require_gradient(t);
    tensor_release(t->gradient->value);
    t->gradient->value = tensor_retain(gradient);
    t->gradient->parameter = true;
}

struct gradient *gradient_retain(struct gradient *g)
{
    if (g)
        g->references++;
    return g;
}

void gradient_release(struct gradient *g)
{
    if (!g || --g->references > 0)
        return;
    tensor_release(g->value);
    free(g);
}

void tensor_upload(struct tensor *t, const void *src)
{
    t->device->backend->upload(t->device, t->data, src,
                               (size_t)tensor_count(t) * dtype_size(t->dtype));
}

struct tensor *tensor_from_f32(struct device *d, int ndim, const int64_t *shape, const float *src)
{
    struct tensor *t = tensor_new(d, DTYPE_F32, ndim, shape);
    tensor_upload(t, src);
    return t;
}

void tensor_to_f32(const struct tensor *t, float *dst)
{
    size_t n = (size_t)tensor_count(t), bytes = n * dtype_size(t->dtype);
    const struct backend *b = t->device->backend;
    if (t->dtype == DTYPE_F32) {
        b->download(t->device, dst, t->data, bytes);
        return;
    }
    void *host = xmalloc(bytes);
    b->download(t->device, host, t->data, bytes);
    dtype_to_f32(dst, t->dtype, host, n);
    free(host);
}

float *tensor_to_host(const struct tensor *t)
{
    float *host = xmalloc((size_t)tensor_count(t) * sizeof *host + 1); /* never NULL */
    tensor_to_f32(t, host);
    return host;
}
