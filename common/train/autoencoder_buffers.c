#include "common/train/autoencoder_buffers.h"

#include "common/train/reconstruction_loss.h"

int64_t autoencoder_outputs(int64_t n)
{
    return 2 * n + RECONSTRUCTION_NUMBERS + (n + 1) / 2;
}

void autoencoder_buffers_make(struct autoencoder_buffers *b, struct device *d, int64_t n,
                              int64_t height, int64_t width)
{
    *b = (struct autoencoder_buffers){
        .n = n,
        .height = height,
        .width = width,
        .images = tensor_new(d, DTYPE_F32, DIMS(n, 3, height, width)),
        .draws = tensor_new(d, DTYPE_I64, DIMS(n, 2)),
        .weight = tensor_new(d, DTYPE_F64, DIMS(1)),
        .outputs = tensor_new(d, DTYPE_F64, DIMS(autoencoder_outputs(n))),
    };
    b->errors = tensor_slice(b->outputs, 0, n);
    b->kl = tensor_slice(b->outputs, n, n);
    b->numbers = tensor_slice(b->outputs, 2 * n, RECONSTRUCTION_NUMBERS);
    const double *end = (const double *)b->outputs->data + 2 * n + RECONSTRUCTION_NUMBERS;
    b->distances = tensor_borrow(d, DTYPE_F32, DIMS(n), end);
}

void autoencoder_buffers_release(struct autoencoder_buffers *b)
{
    tensor_release(b->images);
    tensor_release(b->draws);
    tensor_release(b->weight);
    tensor_release(b->errors);
    tensor_release(b->kl);
    tensor_release(b->numbers);
    tensor_release(b->distances);
    tensor_release(b->outputs);
    *b = (struct autoencoder_buffers){0};
}
