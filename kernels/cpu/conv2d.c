#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

/* Row m of the left side, for a tap, is the input pixel under that tap. */
void cpu_find_pixels(const void *context, int64_t m, int count, const void **a, int stride)
{
    const struct conv2d_args *f = context;
    const char *data = f->x->data;
    size_t size = dtype_size(f->x->dtype);
    int64_t h = f->x->shape[1], w = f->x->shape[2], c = f->x->shape[3];
    int64_t out_h = f->y->shape[1], out_w = f->y->shape[2];
    int64_t kernel_h = f->weight->shape[2], kernel_w = f->weight->shape[3];
    int64_t n = m / (out_h * out_w), oy = m / out_w % out_h, ox = m % out_w;
    for (int i = 0; i < count; i++) {
        int64_t y0 = oy * f->stride - f->pad_begin, x0 = ox * f->stride - f->pad_begin;
        const void **at = a + i;
        for (int64_t y = y0; y < y0 + kernel_h; y++)
            for (int64_t x = x0; x < x0 + kernel_w; x++, at += stride) {
                bool inside = y >= 0 && y < h && x >= 0 && x < w;
                *at = inside ? data + (size_t)(((n * h + y) * w + x) * c) * size : NULL;
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
    void *columns;
    int64_t first, ld; /* ld: of columns */
    int taps;
};

#define PATCHES_CHUNK 64

/* Writes output pixels [begin, end) as rows of channels * taps inputs, in the weights' order,
 * padded with zeros. */
#define GATHER(name, element)                                                                      \
    static void name(void *arg, int64_t begin, int64_t end, int worker)                            \
    {                                                                                              \
        const struct patches_job *j = arg;                                                         \
        int64_t channels = j->a->x->shape[3];                                                      \
        const void *pixels[j->taps];                                                               \
        for (int64_t m = begin; m < end; m++) {                                                    \
            element *row = (element *)j->columns + m * j->ld;                                      \
            cpu_find_pixels(j->a, j->first + m, 1, pixels, 1);                                     \
            for (int tap = 0; tap < j->taps; tap++)                                                \
                for (int64_t c = 0; c < channels; c++)                                             \
                    row[c * j->taps + tap] = pixels[tap] ? ((const element *)pixels[tap])[c] : 0;  \
            for (int64_t i = channels * j->taps; i < j->ld; i++)                                   \
                row[i] = 0;                                                                        \
        }                                                                                          \
    }
GATHER(gather_patches, float)
GATHER(gather_patches_bf16, uint16_t)

void cpu_gather_patches(const struct conv2d_args *a, int64_t first, int64_t count, void *columns,
                        int64_t ld)
{
    struct patches_job j = {.a = a, .columns = columns, .first = first, .ld = ld};
    j.taps = (int)(a->weight->shape[2] * a->weight->shape[3]);
    parallel_for(count, PATCHES_CHUNK,
                 a->x->dtype == DTYPE_BF16 ? gather_patches_bf16 : gather_patches, &j);
}

static int64_t patches_ld(const struct matmul *m)
{
    return m->dtype == DTYPE_BF16 ? round_up(m->channels, 2) : m->channels;
}

/* With few input channels (pixels, latents), patches are copied out, one slab of the image at a
 * time. */
static void conv2d_patches(struct device *d, const struct conv2d_args *a, struct matmul m)
{
    int64_t rows = m.rows, ld = patches_ld(&m), slab = least(rows, CPU_PATCHES_SLAB);
    size_t granted, size = dtype_size(m.dtype);
    void *columns = device_allocate(d, (size_t)(slab * ld) * size, &granted);
    struct dense_rows dense = {columns, ld, m.dtype};
    m.find_rows = find_dense_rows;
    m.context = &dense;
    for (int64_t first = 0; first < rows; first += slab) {
        m.rows = least(rows - first, slab);
        m.c = (char *)a->y->data + (size_t)(first * m.ldc) * size;
        if (a->residual)
            m.residual = (char *)a->residual->data + (size_t)(first * m.ldc) * size;
        cpu_gather_patches(a, first, m.rows, columns, ld);
        matmul(d, &m);
    }
    device_release(d, columns, granted);
}

/* Of BF16, where the processor multiplies it. Measured on Zen 5, two cores, in ms:
 *                       64 x 32x32x64   1 x 64x64x512   8 x 8x8x512   1 x 8x8x1536   4 x 4x4x1536
 *   F(2x2, 3x3)         26              13.8            1.6           4.9            4.5
 *   direct              6.5             24              3.0           4.3            6.8
 *   direct, by patches                                                4.3            4.2
 *   F(4x4, 3x3), F32    4.2             17.8            2.8
 * Few channels take longer to transform than to multiply: larger tiles win, in F32 as they would
 * round too much in BF16. Patches need no reordering of weights that are BF16, which for the
 * smallest images takes longer than the products. */
static bool multiplies_bf16(const struct conv2d_args *a)
{
    return a->x->dtype == DTYPE_BF16 && cpu_bf16();
}

bool cpu_conv2d_winograd_is_bf16(const struct conv2d_args *a)
{
    return multiplies_bf16(a) && a->weight->shape[1] >= 128;
}

static bool is_winograd(const struct conv2d_args *a)
{
    int64_t pixels = a->y->shape[1] * a->y->shape[2];
    if (a->weight->shape[2] != 3 || a->weight->shape[3] != 3 || a->stride != 1 ||
        a->pad_begin != 1 || a->y->shape[1] != a->x->shape[1] || a->y->shape[2] != a->x->shape[2])
        return false;
    if (cpu_conv2d_winograd_is_bf16(a))
        return pixels >= (a->weight->dtype == DTYPE_BF16 ? CPU_SMALL_IMAGE : 16);
    return a->weight->shape[1] >= 32 && pixels >= 64;
}

/* Few input channels; or many of a small image, whose weights of BF16 then are packed as they lie,
 * in pairs. */
static bool is_patches(const struct conv2d_args *a)
{
    int64_t taps = a->weight->shape[2] * a->weight->shape[3];
    bool pairs = multiplies_bf16(a) && a->weight->dtype == DTYPE_BF16 &&
                 a->y->shape[1] * a->y->shape[2] < CPU_SMALL_IMAGE;
    return !is_winograd(a) && taps > 1 && (a->weight->shape[1] < 32 || taps > 25 || pairs);
}

/* The product that a convolution without Winograd's transforms is. */
static struct matmul product_of(const struct conv2d_args *a, bool patches)
{
    struct matmul m = {
        .rows = tensor_rows(a->y),
        .columns = a->weight->shape[0],
        .channels = a->weight->shape[1],
        .taps = (int)(a->weight->shape[2] * a->weight->shape[3]),
        .find_rows = cpu_find_pixels,
        .context = a,
        .dtype = a->x->dtype,
        .weight_dtype = a->weight->dtype,
        .weight = a->weight->data,
        .bias = a->bias ? a->bias->data : NULL,
        .c = a->y->data,
        .ldc = a->weight->shape[0],
        .residual = a->residual ? a->residual->data : NULL,
    };
    if (patches) {
        m.channels *= m.taps;
        m.taps = 1;
        m.even_rows = true;
    }
    return m;
}

/* The algorithm depends on the shape of one image only, so that results do not depend on the batch.
 */
static void run(struct device *d, const struct conv2d_args *a)
{
    if (is_winograd(a)) {
        cpu_conv2d_winograd(d, a);
        return;
    }
    bool patches = is_patches(a);
    struct matmul m = product_of(a, patches);
    if (patches)
        conv2d_patches(d, a, m);
    else
        matmul(d, &m);
}

size_t cpu_conv2d_bytes(const struct conv2d_args *a)
{
    if (is_winograd(a))
        return cpu_conv2d_winograd_bytes(a);
    bool patches = is_patches(a);
    struct matmul m = product_of(a, patches);
    if (!patches)
        return matmul_bytes(&m);
    m.rows = least(m.rows, CPU_PATCHES_SLAB);
    return (size_t)(m.rows * patches_ld(&m)) * dtype_size(m.dtype) + matmul_bytes(&m);
}

/* F32 is added afterwards: products are not rounded before. */
void cpu_conv2d(struct device *d, const struct conv2d_args *a)
{
    if (!a->residual || a->y->dtype == DTYPE_BF16) {
        run(d, a);
        return;
    }
    struct conv2d_args apart = *a;
    apart.residual = NULL;
    apart.y = tensor_new(d, a->y->dtype, a->y->ndim, a->y->shape);
    run(d, &apart);
    cpu_add(d, &(struct add_args){a->residual, apart.y, a->y});
    tensor_release(apart.y);
}
