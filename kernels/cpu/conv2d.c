#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

/* Row m of the left side, for a tap, is the input pixel under that tap. */
static void find_pixels(const void *context, int64_t m, int count, const float **a, int stride)
{
    const struct conv2d_args *f = context;
    const float *data = f->x->data;
    int64_t h = f->x->shape[1], w = f->x->shape[2], c = f->x->shape[3];
    int64_t out_h = f->y->shape[1], out_w = f->y->shape[2];
    int64_t kernel_h = f->weight->shape[2], kernel_w = f->weight->shape[3];
    int64_t n = m / (out_h * out_w), oy = m / out_w % out_h, ox = m % out_w;
    for (int i = 0; i < count; i++) {
        int64_t y0 = oy * f->stride - f->pad_begin, x0 = ox * f->stride - f->pad_begin;
        const float **at = a + i;
        for (int64_t y = y0; y < y0 + kernel_h; y++)
            for (int64_t x = x0; x < x0 + kernel_w; x++, at += stride) {
                bool inside = y >= 0 && y < h && x >= 0 && x < w;
                *at = inside ? data + ((n * h + y) * w + x) * c : NULL;
            }
        if (++ox == out_w) {
            ox = 0;
            if (++oy == out_h) {
                oy = 0;
                n++;
            }
        }
    }
}

struct patches_job {
    const struct conv2d_args *a;
    float *columns;
    int64_t first;
    int taps;
};

#define PATCHES_CHUNK 64

/* Writes output pixels [begin, end) as rows of channels * taps inputs, in the weights' order. */
static void gather_patches(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct patches_job *j = arg;
    int64_t channels = j->a->x->shape[3];
    const float *pixels[j->taps];
    for (int64_t m = begin; m < end; m++) {
        float *row = j->columns + m * channels * j->taps;
        find_pixels(j->a, j->first + m, 1, pixels, 1);
        for (int tap = 0; tap < j->taps; tap++)
            for (int64_t c = 0; c < channels; c++)
                row[c * j->taps + tap] = pixels[tap] ? pixels[tap][c] : 0;
    }
}

/* With few input channels (pixels, latents), patches are copied out, one slab of the image at a
 * time. */
static void conv2d_patches(struct device *d, const struct conv2d_args *a, struct matmul m)
{
    int64_t rows = m.rows;
    float *c = m.c;
    struct patches_job j = {.a = a, .taps = m.taps};
    m.channels *= m.taps;
    m.taps = 1;
    size_t granted;
    int64_t slab = rows < CPU_PATCHES_SLAB ? rows : CPU_PATCHES_SLAB;
    j.columns = device_allocate(d, (size_t)(slab * m.channels) * sizeof(float), &granted);
    struct dense_rows dense = {j.columns, m.channels};
    m.find_rows = find_dense_rows;
    m.context = &dense;
    for (j.first = 0; j.first < rows; j.first += slab) {
        m.rows = rows - j.first < slab ? rows - j.first : slab;
        m.c = c + j.first * m.ldc;
        parallel_for(m.rows, PATCHES_CHUNK, gather_patches, &j);
        matmul(d, &m);
    }
    device_release(d, j.columns, granted);
}

bool cpu_conv2d_is_winograd(const struct conv2d_args *a)
{
    return a->weight->shape[2] == 3 && a->weight->shape[3] == 3 && a->stride == 1 &&
           a->pad_begin == 1 && a->y->shape[1] == a->x->shape[1] &&
           a->y->shape[2] == a->x->shape[2] && a->weight->shape[1] >= 32 &&
           a->y->shape[1] * a->y->shape[2] >= 64;
}

bool cpu_conv2d_is_patches(const struct conv2d_args *a)
{
    int64_t taps = a->weight->shape[2] * a->weight->shape[3];
    return !cpu_conv2d_is_winograd(a) && taps > 1 && (a->weight->shape[1] < 32 || taps > 25);
}

/* The algorithm depends on the shape of one image only, so that results do not depend on the batch.
 */
void cpu_conv2d(struct device *d, const struct conv2d_args *a)
{
    int64_t kernel_h = a->weight->shape[2], kernel_w = a->weight->shape[3];
    int64_t in = a->weight->shape[1];
    if (cpu_conv2d_is_winograd(a)) {
        cpu_conv2d_winograd(d, a);
        return;
    }
    struct matmul m = {
        .rows = tensor_rows(a->y),
        .columns = a->weight->shape[0],
        .channels = in,
        .taps = (int)(kernel_h * kernel_w),
        .find_rows = find_pixels,
        .context = a,
        .weight_dtype = a->weight->dtype,
        .weight = a->weight->data,
        .bias = a->bias ? a->bias->data : NULL,
        .c = a->y->data,
        .ldc = a->weight->shape[0],
    };
    if (cpu_conv2d_is_patches(a))
        conv2d_patches(d, a, m);
    else
        matmul(d, &m);
}
