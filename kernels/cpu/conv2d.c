#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

/* Row m of a convolution's left side under a tap is the input pixel that the tap falls on. */
static const float *shifted_pixel(const void *context, int64_t m, int tap)
{
    const struct conv2d_args *a = context;
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    int64_t out_h = a->y->shape[1], out_w = a->y->shape[2], kernel_w = a->weight->shape[3];
    int64_t n = m / (out_h * out_w), at = m % (out_h * out_w);
    int64_t y = at / out_w * a->stride + tap / kernel_w - a->pad_begin;
    int64_t x = at % out_w * a->stride + tap % kernel_w - a->pad_begin;
    if (y < 0 || y >= h || x < 0 || x >= w)
        return NULL;
    return (const float *)a->x->data + ((n * h + y) * w + x) * c;
}

static const float *dense_row(const void *context, int64_t m, int tap)
{
    const struct matmul *product = context;
    const float *columns = product->context;
    return columns + m * product->channels;
}

struct patches_job {
    const struct conv2d_args *a;
    float *columns;
    int64_t first;
};

/* Writes output pixels [begin, end) as rows of channels * taps inputs, in the weights' order. */
static void gather_patches(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct patches_job *j = arg;
    const struct conv2d_args *a = j->a;
    int64_t channels = a->x->shape[3];
    int taps = (int)(a->weight->shape[2] * a->weight->shape[3]);
    for (int64_t m = begin; m < end; m++) {
        float *row = j->columns + m * channels * taps;
        for (int tap = 0; tap < taps; tap++) {
            const float *pixel = shifted_pixel(a, j->first + m, tap);
            for (int64_t c = 0; c < channels; c++)
                row[c * taps + tap] = pixel ? pixel[c] : 0;
        }
    }
}

/* Few input channels (pixels, latents): patches are copied out, a slab of the image at a time. */
#define PATCHES_SLAB 16384

static void conv2d_patches(struct device *d, const struct conv2d_args *a, struct matmul m)
{
    int64_t rows = m.rows;
    float *c = m.c;
    m.channels *= m.taps;
    m.taps = 1;
    size_t granted;
    int64_t slab = rows < PATCHES_SLAB ? rows : PATCHES_SLAB;
    float *columns = device_allocate(d, (size_t)(slab * m.channels) * sizeof(float), &granted);
    struct matmul product = m;
    product.row = dense_row;
    for (int64_t first = 0; first < rows; first += slab) {
        struct patches_job j = {a, columns, first};
        product.rows = rows - first < slab ? rows - first : slab;
        product.c = c + first * m.ldc;
        struct matmul holder = product;
        holder.context = columns;
        product.context = &holder;
        parallel_for(product.rows, 64, gather_patches, &j);
        matmul(d, &product);
    }
    device_release(d, columns, granted);
}

/* The way is chosen by the shape of one image, so that results do not depend on the batch. */
void cpu_conv2d(struct device *d, const struct conv2d_args *a)
{
    int64_t kernel_h = a->weight->shape[2], kernel_w = a->weight->shape[3];
    int64_t in = a->weight->shape[1];
    if (kernel_h == 3 && kernel_w == 3 && a->stride == 1 && a->pad_begin == 1 && a->pad_end == 1 &&
        in >= 32 && a->y->shape[1] * a->y->shape[2] >= 64) {
        cpu_conv2d_winograd(d, a);
        return;
    }
    struct matmul m = {
        .rows = tensor_rows(a->y),
        .columns = a->weight->shape[0],
        .channels = in,
        .taps = (int)(kernel_h * kernel_w),
        .row = shifted_pixel,
        .context = a,
        .weight_dtype = a->weight->dtype,
        .weight = a->weight->data,
        .bias = a->bias ? a->bias->data : NULL,
        .c = a->y->data,
        .ldc = a->weight->shape[0],
    };
    if (m.taps > 1 && (in < 32 || m.taps > 25))
        conv2d_patches(d, a, m);
    else
        matmul(d, &m);
}
