#include "common/train/loss.h"

#include "common/base/message.h"
#include "kernels/device.h"

void cloob_loss(struct cloob_loss *out, const struct tensor *image, const struct tensor *text,
                double inv_tau, double scale_hopfield)
{
    CHECK(image->ndim == 2 && tensor_same_shape(image, text) && image->shape[0] >= 2);
    struct device *d = image->device;
    double one = 1, numbers[2];
    struct tensor *weight = tensor_new(d, DTYPE_F64, DIMS(1));
    struct tensor *of_loss = tensor_new(d, DTYPE_F64, DIMS(2));
    out->dimage = tensor_new(d, DTYPE_F32, image->ndim, image->shape);
    out->dtext = tensor_new(d, DTYPE_F32, text->ndim, text->shape);
    tensor_upload(weight, &one);
    struct cloob_loss_args args = {.image = image,
                                   .text = text,
                                   .weight = weight,
                                   .inv_tau = inv_tau,
                                   .scale_hopfield = scale_hopfield,
                                   .numbers = of_loss,
                                   .dimage = out->dimage,
                                   .dtext = out->dtext};
    d->backend->cloob_loss(d, &args);
    d->backend->download(d, numbers, of_loss->data, sizeof numbers);
    out->total = numbers[0];
    out->cosine = numbers[1];
    tensor_release(weight);
    tensor_release(of_loss);
}
