#include "tests/support/posterior.h"

#include <stdlib.h>

#include "common/base/message.h"
#include "kernels/device.h"

static struct tensor *number(struct device *d, double value)
{
    struct tensor *t = tensor_new(d, DTYPE_F64, DIMS(1));
    tensor_upload(t, &value);
    return t;
}

/* The mean of an F64 tensor, which is released. */
static double mean_of(struct tensor *t)
{
    int64_t n = tensor_count(t);
    double *host = xmalloc((size_t)n * sizeof *host), sum = 0;
    t->device->backend->download(t->device, host, t->data, (size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++)
        sum += host[i] / (double)n;
    free(host);
    tensor_release(t);
    return sum;
}

static struct tensor *like(const struct tensor *t)
{
    return tensor_new(t->device, DTYPE_F32, t->ndim, t->shape);
}

/* z, and *kl, F64 [n]. */
static struct tensor *draw(const struct tensor *moments, const struct tensor *noise,
                           struct tensor **kl)
{
    struct device *d = moments->device;
    const int64_t *s = moments->shape;
    CHECK(moments->ndim == 4 && s[1] % 2 == 0 && s[0] > 0);
    struct tensor *z = tensor_new(d, DTYPE_F32, DIMS(s[0], s[1] / 2, s[2], s[3]));
    *kl = tensor_new(d, DTYPE_F64, DIMS(s[0]));
    CHECK(!noise || tensor_count(noise) == tensor_count(z));
    d->backend->posterior(d, &(struct posterior_args){moments, noise, z, *kl});
    return z;
}

struct tensor *posterior_sample(const struct tensor *moments, const struct tensor *noise)
{
    struct tensor *kl, *z = draw(moments, noise, &kl);
    tensor_release(kl);
    return z;
}

/* By the moments, of the loss whose gradient by z is dz, plus kl_weight * kl. */
static struct tensor *draw_backward(const struct tensor *moments, const struct tensor *noise,
                                    const struct tensor *dz, double kl_weight)
{
    struct device *d = moments->device;
    struct tensor *dmoments = like(moments), *one = number(d, 1);
    d->backend->posterior_backward(
        d, &(struct posterior_backward_args){moments, noise, dz, one, kl_weight, dmoments});
    tensor_release(one);
    return dmoments;
}

void posterior_sample_backward(const struct tensor *moments, const struct tensor *noise,
                               const struct tensor *dz, struct tensor *dmoments)
{
    struct tensor *more = draw_backward(moments, noise, dz, 0);
    tensor_add(dmoments, more);
    tensor_release(more);
}

void kl_loss(struct kl_loss *out, const struct tensor *image, const struct tensor *reconstruction,
             const struct tensor *moments, double weight)
{
    struct device *d = image->device;
    CHECK(tensor_same_shape(image, reconstruction));
    int64_t n = moments->shape[0];
    struct tensor *kl, *z = draw(moments, NULL, &kl), *one_image = number(d, 1 / (double)n);
    struct tensor *errors = tensor_new(d, DTYPE_F64, DIMS(n));
    struct fill_args zero = {tensor_count(z), z->data, 0};
    out->dreconstruction = like(reconstruction);
    d->backend->reconstruction_error(
        d, &(struct reconstruction_error_args){image, reconstruction, one_image, false, errors,
                                               out->dreconstruction});
    d->backend->fill(d, &zero); /* the gradient by z of the kl term alone */
    out->dmoments = draw_backward(moments, NULL, z, weight / (double)n);
    out->reconstruction = mean_of(errors);
    out->kl = mean_of(kl);
    out->total = out->reconstruction + weight * out->kl;
    tensor_release(z);
    tensor_release(one_image);
}
