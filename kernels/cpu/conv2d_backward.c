#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"

/* The input's gradient: a convolution of dy with the kernels rotated by 180 degrees and input and
 * output channels swapped. With a stride, zeros are first inserted into dy. */

#define FLIP_CHANNELS 16
#define FLIP_ELEMENTS 1024 /* of an input channel at a time */

struct flip_job {
    const struct tensor *weight, *flipped; /* flipped: [ci][co][kh][kw] */
};

static void flip_channels(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct flip_job *j = arg;
    const struct tensor *w = j->weight;
    int64_t out = w->shape[0], in = w->shape[1], taps = w->shape[2] * w->shape[3];
    int64_t step = FLIP_ELEMENTS / taps;
    for (int64_t first = 0; first < out; first += step)
        for (int64_t i = begin; i < end; i++) {
            float buffer[FLIP_ELEMENTS];
            int64_t at = (i * out + first) * taps;
            int64_t count = out - first < step ? out - first : step;
            float *to = row_begin(j->flipped, at, buffer);
            for (int64_t o = 0; o < count; o++) {
                const float *from = (const float *)w->data + ((first + o) * in + i) * taps;
                for (int64_t t = 0; t < taps; t++)
                    to[o * taps + t] = from[taps - 1 - t];
            }
            row_written(j->flipped, at, count * taps, to);
        }
}

struct spread_job {
    const struct tensor *dy;
    struct tensor *spread;
    int stride;
};

static void spread_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct spread_job *j = arg;
    int64_t h = j->spread->shape[1], w = j->spread->shape[2], c = j->spread->shape[3];
    int64_t from_h = j->dy->shape[1], from_w = j->dy->shape[2];
    size_t pixel = (size_t)c * dtype_size(j->dy->dtype);
    for (int64_t row = begin; row < end; row++) {
        char *to = element_of(j->spread, row * w * c);
        memset(to, 0, (size_t)w * pixel);
        if (row % h % j->stride)
            continue;
        const char *from = element_of(j->dy, (row / h * from_h + row % h / j->stride) * from_w * c);
        for (int64_t x = 0; x < from_w; x++)
            memcpy(to + (size_t)(x * j->stride) * pixel, from + (size_t)x * pixel, pixel);
    }
}

/* Weights of BF16 save time where they are many for few pixels, but here images are many. */
enum dtype cpu_conv2d_flipped_dtype(const struct conv2d_backward_args *a)
{
    bool small = a->dx->shape[1] * a->dx->shape[2] < CPU_SMALL_IMAGE;
    return small ? DTYPE_F32 : a->dy->dtype;
}

static void by_input(struct device *d, const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    const int64_t *w = f->weight->shape;
    CHECK(w[2] == w[3] && f->pad_begin < w[2] && w[2] * w[3] <= FLIP_ELEMENTS);
    struct tensor *flipped =
        tensor_new(d, cpu_conv2d_flipped_dtype(a), DIMS(w[1], w[0], w[2], w[3]));
    struct flip_job flip = {f->weight, flipped};
    parallel_for(w[1], FLIP_CHANNELS, flip_channels, &flip);
    const struct tensor *dy = a->dy;
    struct tensor *spread = NULL;
    if (f->stride > 1) {
        spread = tensor_new(d, dy->dtype,
                            DIMS(dy->shape[0], (dy->shape[1] - 1) * f->stride + 1,
                                 (dy->shape[2] - 1) * f->stride + 1, dy->shape[3]));
        struct spread_job j = {dy, spread, f->stride};
        parallel_for(spread->shape[0] * spread->shape[1], 4, spread_rows, &j);
        dy = spread;
    }
    /* dx has x's size whatever the padding at the end: its rows decide what is computed. */
    int pad = (int)w[2] - 1 - f->pad_begin;
    struct conv2d_args back = {dy, flipped, NULL, a->dx, 1, pad, pad, a->adds ? a->dx : NULL};
    if (f->stride > 1)
        back.pad_end = (int)(a->dx->shape[1] + w[2] - 1 - dy->shape[1] - pad);
    cpu_conv2d(d, &back);
    tensor_release(spread);
    tensor_release(flipped);
}

/* The weights' gradient: for every tap, dy times the input pixels under the tap, which are gathered
 * for one slab of output pixels at a time. */

#define BY_WEIGHTS_BYTES ((int64_t)16 << 20)

struct gather_job {
    const struct conv2d_args *f;
    int64_t first;
    struct tensor *columns; /* [pixels][taps][ci] */
};

static void gather_pixels(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct gather_job *j = arg;
    const struct conv2d_args *f = j->f;
    int64_t c = f->x->shape[3], h = f->x->shape[1], w = f->x->shape[2];
    int64_t out_h = f->y->shape[1], out_w = f->y->shape[2];
    int taps = (int)(f->weight->shape[2] * f->weight->shape[3]), side = (int)f->weight->shape[3];
    size_t bytes = (size_t)c * dtype_size(f->x->dtype);
    for (int64_t p = begin; p < end; p++) {
        int64_t at = j->first + p, n = at / (out_h * out_w), pixel = at % (out_h * out_w);
        for (int t = 0; t < taps; t++) {
            int64_t y = pixel / out_w * f->stride + t / side - f->pad_begin;
            int64_t x = pixel % out_w * f->stride + t % side - f->pad_begin;
            void *to = element_of(j->columns, (p * taps + t) * c);
            if (y < 0 || y >= h || x < 0 || x >= w)
                memset(to, 0, bytes);
            else
                memcpy(to, element_of(f->x, ((n * h + y) * w + x) * c), bytes);
        }
    }
}

struct scatter_job {
    const struct tensor *weight;
    const float *sums; /* [co][taps][ci] */
    float *dweight;    /* [co][ci][taps] */
};

static void add_weights(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct scatter_job *j = arg;
    int64_t in = j->weight->shape[1], taps = j->weight->shape[2] * j->weight->shape[3];
    for (int64_t o = begin; o < end; o++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t t = 0; t < taps; t++)
                j->dweight[(o * in + i) * taps + t] += j->sums[(o * taps + t) * in + i];
}

/* Output pixels that are gathered at a time. */
static int64_t slab_of(const struct conv2d_backward_args *a)
{
    const int64_t *w = a->forward.weight->shape;
    int64_t slab = BY_WEIGHTS_BYTES / (w[1] * w[2] * w[3] * (int64_t)sizeof(float));
    return least(slab < 256 ? 256 : slab, tensor_rows(a->dy));
}

static void by_weights(struct device *d, const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    int64_t out = f->weight->shape[0], in = f->weight->shape[1];
    int64_t width = in * f->weight->shape[2] * f->weight->shape[3], pixels = tensor_rows(a->dy);
    int64_t slab = slab_of(a);
    struct tensor *columns = tensor_new(d, f->x->dtype, DIMS(slab, width));
    struct tensor *sums = tensor_new(d, DTYPE_F32, DIMS(out, width));
    memset(sums->data, 0, (size_t)(out * width) * sizeof(float));
    for (int64_t first = 0; first < pixels; first += slab) {
        struct gather_job g = {f, first, columns};
        int64_t count = pixels - first < slab ? pixels - first : slab;
        parallel_for(count, 16, gather_pixels, &g);
        struct dense_rows dy = {element_of(a->dy, first * out), out, a->dy->dtype};
        struct dense_rows x = {columns->data, width, columns->dtype};
        matmul_outer(d, out, width, count, dy, x, sums->data, width);
    }
    struct scatter_job s = {f->weight, sums->data, a->dweight->data};
    parallel_for(out, 4, add_weights, &s);
    tensor_release(columns);
    tensor_release(sums);
}

static bool is_winograd_by_weights(const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    return f->weight->shape[2] == 3 && f->weight->shape[3] == 3 && f->stride == 1 &&
           f->pad_begin == 1 && f->pad_end == 1 && f->weight->shape[1] >= 16;
}

/* Measured as in conv2d.c, in ms, with Winograd's F(4x4, 3x3) in F32: 7.4 against 4.4 for 64 images
 * of 32x32 with 64 channels, 0.40 against 0.29 for 64 of 8x8. */
static bool is_by_weights_bf16(const struct conv2d_backward_args *a)
{
    return a->dy->dtype == DTYPE_BF16 && cpu_bf16() && !is_winograd_by_weights(a);
}

/* Few channels would leave most of a vector empty: they are gathered as in the forward pass. */
static bool gathers_bf16(const struct conv2d_backward_args *a)
{
    const int64_t *w = a->forward.weight->shape;
    return is_by_weights_bf16(a) && w[1] < 16 && w[2] * w[3] > 1;
}

static void by_patches_bf16(struct device *d, const struct conv2d_args *f,
                            struct matmul_outer_bf16 m)
{
    int64_t pixels = m.k, width = m.columns * m.taps, slab = least(pixels, CPU_PATCHES_SLAB);
    size_t granted;
    uint16_t *columns = device_allocate(d, (size_t)(slab * width) * sizeof *columns, &granted);
    struct dense_rows dense = {columns, width, DTYPE_BF16};
    m.columns = width;
    m.taps = 1;
    m.find_rows = find_dense_rows;
    m.context = &dense;
    for (int64_t first = 0; first < pixels; first += slab) {
        m.k = least(pixels - first, slab);
        cpu_gather_patches(f, first, m.k, columns, width);
        matmul_outer_bf16(d, &m);
        m.a += m.k * m.lda;
        m.fresh = false;
    }
    device_release(d, columns, granted);
}

static void by_weights_bf16(struct device *d, const struct conv2d_backward_args *a)
{
    struct conv2d_args f = a->forward;
    f.y = (struct tensor *)a->dy; /* for its shape */
    struct matmul_outer_bf16 m = {
        .rows = f.weight->shape[0],
        .columns = f.weight->shape[1],
        .k = tensor_rows(a->dy),
        .taps = (int)(f.weight->shape[2] * f.weight->shape[3]),
        .a = a->dy->data,
        .lda = tensor_last(a->dy),
        .find_rows = cpu_find_pixels,
        .context = &f,
        .c = a->dweight->data,
        .fresh = a->fresh,
    };
    if (gathers_bf16(a))
        by_patches_bf16(d, &f, m);
    else
        matmul_outer_bf16(d, &m);
}

size_t cpu_conv2d_by_weights_bytes(const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    int64_t out = f->weight->shape[0], in = f->weight->shape[1], pixels = tensor_rows(a->dy);
    int taps = (int)(f->weight->shape[2] * f->weight->shape[3]);
    if (gathers_bf16(a)) {
        int64_t slab = least(pixels, CPU_PATCHES_SLAB);
        return (size_t)(slab * in * taps) * sizeof(uint16_t) +
               matmul_outer_bf16_bytes(out, in * taps, slab, 1);
    }
    if (is_by_weights_bf16(a))
        return matmul_outer_bf16_bytes(out, in, pixels, taps);
    if (is_winograd_by_weights(a))
        return cpu_conv2d_winograd_by_weights_bytes(a);
    return (size_t)(slab_of(a) * in * taps) * dtype_size(f->x->dtype) +
           (size_t)(out * in * taps) * sizeof(float) + matmul_outer_bytes();
}

void cpu_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    if (a->dx)
        by_input(d, a);
    if (a->dweight) {
        bool bf16 = is_by_weights_bf16(a) && tensor_rows(a->dy) > 0;
        if (a->fresh && !bf16)
            memset(a->dweight->data, 0, (size_t)tensor_count(a->dweight) * sizeof(float));
        if (bf16)
            by_weights_bf16(d, a);
        else if (is_winograd_by_weights(a))
            cpu_conv2d_winograd_by_weights(d, a);
        else
            by_weights(d, a);
    }
    if (a->dbias && a->fresh_bias)
        memset(a->dbias->data, 0, (size_t)tensor_count(a->dbias) * sizeof(float));
    if (a->dbias)
        cpu_column_sums(d, a->dbias->data, a->dy);
}
