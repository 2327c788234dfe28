/* Replaces NVIDIA's libraries (kernels/cuda/libraries.h) by loops on the host: operands are
 * converted to F32, sums are F32, and results are rounded to their type once. A bias is converted
 * as for them. */
#include <vector>

#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/patch_products.h"
#include "kernels/cuda/plain_product.cuh"

/* There are no plans. */
struct library_plans {
};

struct library_plans *library_plans_new(struct device *d)
{
    return new library_plans();
}

void library_plans_free(struct library_plans *p)
{
    delete p;
}

static float element(enum dtype type, const void *p, int64_t i)
{
    return type == DTYPE_F32   ? ((const float *)p)[i]
           : type == DTYPE_F16 ? __half2float(((const half_t *)p)[i])
                               : __bfloat162float(((const bf16_t *)p)[i]);
}

static void set_element(enum dtype type, void *p, int64_t i, float x)
{
    if (type == DTYPE_F32)
        ((float *)p)[i] = x;
    else if (type == DTYPE_F16)
        ((half_t *)p)[i] = __float2half_rn(x);
    else
        ((bf16_t *)p)[i] = __float2bfloat16_rn(x);
}

typedef std::vector<float> floats;

/* Returns [rows, columns] as contiguous F32; `transposed`: stored as [columns, rows]. */
static floats matrix(enum dtype type, const void *p, int64_t rows, int64_t columns, int64_t pitch,
                     bool transposed)
{
    floats m((size_t)(rows * columns));
    cuda_host::parallel_for((size_t)rows, [&](size_t i) {
        for (int64_t j = 0; j < columns; j++)
            m[i * columns + j] = element(type, p, transposed ? j * pitch + i : i * pitch + j);
    });
    return m;
}

#define ROWS          4   /* of c that are summed at once */
#define COLUMNS       256 /* of c: sums and a strip of b stay in the cache */
#define SMALL_PRODUCT 20000
#define RUN           64 /* products summed before they are added to the total, to keep errors small */

/* Calls store(row, column, sum) for every element of a [rows, inner] * b [inner, columns]. */
template <typename STORE>
static void multiply(int64_t rows, int64_t columns, int64_t inner, const float *a, const float *b,
                     STORE store)
{
    const int64_t strips = divide_up(columns, COLUMNS);
    cuda_host::parallel_for((size_t)(divide_up(rows, ROWS) * strips), [&](size_t task) {
        const int64_t row = (int64_t)task / strips * ROWS,
                      column = (int64_t)task % strips * COLUMNS;
        const int64_t height = min((long)ROWS, (long)(rows - row));
        const int64_t width = min((long)COLUMNS, (long)(columns - column));
        float total[ROWS][COLUMNS] = {}, sums[ROWS][COLUMNS];
        for (int64_t begin = 0; begin < inner; begin += RUN) {
            const int64_t end = min((long)(begin + RUN), (long)inner);
            memset(sums, 0, sizeof sums);
            for (int64_t k = begin; k < end; k++) {
                const float *strip = b + k * columns + column;
                for (int64_t i = 0; i < height; i++) {
                    const float factor = a[(row + i) * inner + k];
                    for (int64_t j = 0; j < width; j++)
                        sums[i][j] += factor * strip[j];
                }
            }
            for (int64_t i = 0; i < height; i++)
                for (int64_t j = 0; j < width; j++)
                    total[i][j] += sums[i][j];
        }
        for (int64_t i = 0; i < height; i++)
            for (int64_t j = 0; j < width; j++)
                store(row + i, column + j, total[i][j]);
    });
}

void matrix_product(struct device *d, const struct matrix_product *product)
{
    const struct matrix_product p = *product;
    /* Some products go to the fallback kernel, so that it is tested, too. */
    if (!cuda_host::counts() && p.rows * p.columns * p.inner < SMALL_PRODUCT) {
        plain_product(d, &p);
        if (p.a_sums)
            add_column_sums(d, p.a_sums, p.type, p.a, p.inner, p.rows, p.ld_a, true);
        return;
    }
    const library_bias converted(d, p.bias, p.c_type, MATRIX_BIAS_ALIGNMENT);
    const void *bias = converted.data;
    const double operands = (double)(p.rows + p.columns) * (double)p.inner * size_of(p.type);
    const double results = (double)(p.rows * p.columns) * size_of(p.c_type);
    if (cuda_host::counted(p.transpose_a ? "product by a transpose" : "product",
                           2.0 * (double)(p.rows * p.columns) * (double)p.inner,
                           operands + results * (p.beta != 0 ? 2 : 1)))
        return;
    cuda_host::host_task(stream_of(d), [p, bias] {
        const floats a = matrix(p.type, p.a, p.rows, p.inner, p.ld_a, p.transpose_a);
        const floats b = matrix(p.type, p.b, p.inner, p.columns, p.ld_b, p.transpose_b);
        multiply(p.rows, p.columns, p.inner, a.data(), b.data(),
                 [&](int64_t row, int64_t column, float sum) {
                     const int64_t at = row * p.ld_c + column;
                     if (p.beta != 0)
                         sum += p.beta * element(p.c_type, p.addend ? p.addend : p.c, at);
                     if (bias)
                         sum += element(p.c_type, bias, column);
                     if (p.relu && sum < 0)
                         sum = 0;
                     set_element(p.c_type, p.c, at, sum);
                 });
        cuda_host::parallel_for(p.a_sums ? (size_t)p.rows : 0, [&](size_t row) {
            const floats one((size_t)p.inner, 1.0f);
            multiply(1, 1, p.inner, &a[row * (size_t)p.inner], one.data(),
                     [&](int64_t, int64_t, float sum) { p.a_sums[row] = sum; });
        });
    });
}

/* Calls f(pixel of x or -1, index in [n*oh*ow, kh*kw]) for the receptive field of output row
 * `line`, counted over all images. */
template <typename F> static void for_taps(const struct convolution &c, int64_t line, F f)
{
    const int64_t image = line / c.oh, oy = line % c.oh;
    for (int64_t ox = 0; ox < c.ow; ox++) {
        for (int64_t ky = 0; ky < c.kh; ky++) {
            for (int64_t kx = 0; kx < c.kw; kx++) {
                const int64_t y = oy * c.stride + ky - c.pad_begin;
                const int64_t x = ox * c.stride + kx - c.pad_begin;
                const bool inside = y >= 0 && y < c.h && x >= 0 && x < c.w;
                f(inside ? (image * c.h + y) * c.w + x : -1,
                  ((line * c.ow + ox) * c.kh + ky) * c.kw + kx);
            }
        }
    }
}

/* [n*oh*ow, kh*kw*ci]: a row is the receptive field of an output pixel. */
static floats patches(const struct convolution &c, const void *x)
{
    floats p((size_t)(c.n * c.oh * c.ow * c.kh * c.kw * c.ci));
    cuda_host::parallel_for((size_t)(c.n * c.oh), [&](size_t line) {
        for_taps(c, (int64_t)line, [&](int64_t from, int64_t to) {
            for (int64_t i = 0; i < c.ci; i++)
                p[to * c.ci + i] = from < 0 ? 0 : element(c.type, x, from * c.ci + i);
        });
    });
    return p;
}

/* Reports a convolution; true: it must not run. Each tensor is read or written once, and `more`
 * elements besides. */
static bool counted(const char *name, const struct convolution &c, double more = 0)
{
    const double outputs = (double)(c.n * c.oh * c.ow * c.co);
    const double inputs = (double)(c.n * c.h * c.w * c.ci);
    const double weights = (double)(c.co * c.kh * c.kw * c.ci);
    return cuda_host::counted(name, 2 * outputs * (double)(c.kh * c.kw * c.ci),
                              (inputs + outputs + weights + more) * size_of(c.type));
}

/* Some convolutions are products of patches, so that these are tested, too. */
static bool takes_patches(const struct convolution *c)
{
    return !cuda_host::counts() && c->co % 3 == 0 && patch_products_suit(c);
}

void convolution_forward(struct device *d, const struct convolution *convolution, const void *x,
                         const void *weight, const struct tensor *bias_f32, const void *residual,
                         void *y)
{
    const struct convolution c = *convolution;
    if (takes_patches(&c)) {
        patch_product_forward(d, &c, x, weight, bias_f32, residual, y);
        return;
    }
    const library_bias converted(d, bias_f32, c.type, CONVOLUTION_BIAS_ALIGNMENT);
    const void *bias = converted.data;
    if (counted("convolution_forward", c, residual ? (double)(c.n * c.oh * c.ow * c.co) : 0))
        return;
    cuda_host::host_task(stream_of(d), [=] {
        const int64_t inner = c.kh * c.kw * c.ci;
        const floats a = patches(c, x), b = matrix(c.type, weight, inner, c.co, inner, true);
        multiply(c.n * c.oh * c.ow, c.co, inner, a.data(), b.data(),
                 [&](int64_t row, int64_t column, float sum) {
                     const int64_t at = row * c.co + column;
                     if (residual)
                         sum += element(c.type, residual, at);
                     set_element(c.type, y, at, sum + (bias ? element(c.type, bias, column) : 0));
                 });
    });
}

void convolution_backward_data(struct device *d, const struct convolution *convolution,
                               const void *dy, const void *weight, void *dx, bool adds)
{
    const struct convolution c = *convolution;
    if (takes_patches(&c)) {
        patch_product_backward_data(d, &c, dy, weight, dx, adds);
        return;
    }
    if (counted("convolution_backward_data", c, adds ? (double)(c.n * c.h * c.w * c.ci) : 0))
        return;
    cuda_host::host_task(stream_of(d), [=] {
        const int64_t rows = c.n * c.oh * c.ow, inner = c.kh * c.kw * c.ci;
        const floats a = matrix(c.type, dy, rows, c.co, c.co, false);
        const floats b = matrix(c.type, weight, c.co, inner, inner, false);
        floats spread((size_t)(rows * inner)), sums((size_t)(c.n * c.h * c.w * c.ci));
        multiply(
            rows, inner, c.co, a.data(), b.data(),
            [&](int64_t row, int64_t column, float sum) { spread[row * inner + column] = sum; });
        cuda_host::parallel_for((size_t)c.n, [&](size_t image) {
            for (int64_t oy = 0; oy < c.oh; oy++)
                for_taps(c, (int64_t)image * c.oh + oy, [&](int64_t to, int64_t from) {
                    for (int64_t i = 0; i < c.ci && to >= 0; i++)
                        sums[to * c.ci + i] += spread[from * c.ci + i];
                });
            const int64_t count = c.h * c.w * c.ci;
            for (int64_t i = (int64_t)image * count; i < ((int64_t)image + 1) * count; i++)
                set_element(c.type, dx, i, sums[i] + (adds ? element(c.type, dx, i) : 0));
        });
    });
}

void convolution_backward_weight(struct device *d, const struct convolution *convolution,
                                 const void *x, const void *dy, void *dweight)
{
    const struct convolution c = *convolution;
    if (counted("convolution_backward_weight", c))
        return;
    cuda_host::host_task(stream_of(d), [=] {
        const int64_t pixels = c.n * c.oh * c.ow, columns = c.kh * c.kw * c.ci;
        const floats a = matrix(c.type, dy, c.co, pixels, c.co, true), b = patches(c, x);
        multiply(c.co, columns, pixels, a.data(), b.data(),
                 [&](int64_t row, int64_t column, float sum) {
                     set_element(c.type, dweight, row * columns + column, sum);
                 });
    });
}
