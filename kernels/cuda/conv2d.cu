#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/patch_products.h"
#include "kernels/cuda/working_weight.cuh"

#define THREADS 256

static struct convolution convolution_of(const struct conv2d_args *a)
{
    struct convolution c = {};
    c.type = a->x->dtype;
    c.n = a->x->shape[0];
    c.h = a->x->shape[1];
    c.w = a->x->shape[2];
    c.ci = a->x->shape[3];
    c.co = a->weight->shape[0];
    c.kh = a->weight->shape[2];
    c.kw = a->weight->shape[3];
    c.stride = a->stride;
    c.pad_begin = a->pad_begin;
    c.pad_end = a->pad_end;
    c.oh = (c.h + a->pad_begin + a->pad_end - c.kh) / a->stride + 1;
    c.ow = (c.w + a->pad_begin + a->pad_end - c.kw) / a->stride + 1;
    return c;
}

/* A 1x1 convolution: a matrix product at every pixel. */
static bool is_pointwise(const struct convolution *c)
{
    return c->kh == 1 && c->kw == 1 && c->stride == 1 && !c->pad_begin && !c->pad_end;
}

/* Patches that do not overlap, as in a vision transformer's first layer. */
static bool is_patchwise(const struct convolution *c)
{
    return c->kh == c->stride && c->kw == c->stride && c->stride > 1 && !c->pad_begin &&
           !c->pad_end;
}

/* patches [n*oh*ow, kh, kw*ci]: every element is read and written once, in runs of kw*ci that are
 * contiguous on both sides. Counts are in vectors of V elements. */
template <typename T, int V>
static __global__ void __launch_bounds__(THREADS)
    patches_kernel(int64_t count, int64_t run, int64_t kh, int64_t ow, int64_t oh, int64_t h,
                   int64_t x_row, const T *x, T *patches)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t along = i % run, line = i / run;
    const int64_t ky = line % kh, patch = line / kh;
    const int64_t px = patch % ow, py = patch / ow % oh, image = patch / ow / oh;
    const int64_t at = (image * h + py * kh + ky) * x_row + px * run + along;
    store_vec(patches + i * V, load_vec<V>(x + at * V));
}

template <typename T, int V>
static void launch_patches(cudaStream_t stream, const struct convolution *c, const T *x, T *patches)
{
    const int64_t run = c->kw * c->ci / V;
    const int64_t count = c->n * c->oh * c->ow * c->kh * run;
    LAUNCH((patches_kernel<T, V>), (unsigned)divide_up(count, THREADS), THREADS, 0, stream, count,
           run, c->kh, c->ow, c->oh, c->h, c->w * c->ci / V, x, patches);
}

static void gather_patches(struct device *d, const struct convolution *c, const void *x,
                           void *patches)
{
    WITH_TYPE(
        c->type, T,
        {
            const int wide = wide_n<T>;
            if (c->kw * c->ci % wide == 0 && c->w * c->ci % wide == 0 && (uintptr_t)x % 16 == 0)
                launch_patches<T, wide_n<T>>(stream_of(d), c, (const T *)x, (T *)patches);
            else
                launch_patches<T, 1>(stream_of(d), c, (const T *)x, (T *)patches);
        });
}

void cuda_conv2d(struct device *d, const struct conv2d_args *a)
{
    const struct convolution c = convolution_of(a);
    const void *residual = a->residual ? a->residual->data : nullptr;
    working_weight weight(d, a->weight, c.type);
    if (is_pointwise(&c)) {
        product_of_patches(d, &c, a->x->data, weight.data, a->bias, residual, a->y->data);
    } else if (is_patchwise(&c)) {
        scratch patches(d, (size_t)(c.n * c.oh * c.ow * c.kh * c.kw * c.ci) * size_of(c.type));
        gather_patches(d, &c, a->x->data, patches.data);
        product_of_patches(d, &c, patches.data, weight.data, a->bias, residual, a->y->data);
    } else {
        convolution_forward(d, &c, a->x->data, weight.data, a->bias, residual, a->y->data);
    }
}

/* to[co, ci, taps] += from[co, taps, ci], or = if fresh. A block transposes `tile` input
 * channels of one filter in shared memory, so that both sides are accessed contiguously. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    add_filters_kernel(int ci, int taps, int tile, bool fresh, const T *from, float *to)
{
    DYNAMIC_SHARED(float, turned); /* [taps, tile + 1] */
    const int begin = (int)blockIdx.x * tile;
    const int channels = ci - begin < tile ? ci - begin : tile;
    const int64_t filter = (int64_t)blockIdx.y * ci * taps;
    for (int i = (int)threadIdx.x; i < taps * tile; i += THREADS) {
        const int tap = i / tile, channel = i % tile;
        if (channel < channels)
            turned[tap * (tile + 1) + channel] =
                to_float(from[filter + (int64_t)tap * ci + begin + channel]);
    }
    __syncthreads();
    float *out = to + filter + (int64_t)begin * taps;
    for (int i = (int)threadIdx.x; i < channels * taps; i += THREADS)
        out[i] = (fresh ? 0 : out[i]) + turned[i % taps * (tile + 1) + i / taps];
}

static void add_filters(struct device *d, const struct convolution *c, bool fresh, const void *from,
                        float *to)
{
    const int taps = (int)(c->kh * c->kw);
    int tile = 128; /* channels, as many as fit in 48 KiB */
    while (tile > 1 && (size_t)taps * (tile + 1) * sizeof(float) > 48 * 1024)
        tile /= 2;
    const dim3 grid((unsigned)divide_up(c->ci, tile), (unsigned)c->co);
    WITH_TYPE(c->type, T,
              LAUNCH(add_filters_kernel<T>, grid, THREADS,
                     (size_t)taps * (tile + 1) * sizeof(float), stream_of(d), (int)c->ci, taps,
                     tile, fresh, (const T *)from, to));
}

/* dweight [co, k] += dy^T * matrix, in dweight's type. */
static void product_backward_weight(struct device *d, const struct convolution *c,
                                    const void *matrix, const void *dy, bool fresh,
                                    const struct tensor *dweight)
{
    struct matrix_product p = {};
    p.rows = c->co;
    p.columns = c->kh * c->kw * c->ci;
    p.inner = c->n * c->oh * c->ow;
    p.type = c->type;
    p.c_type = dweight->dtype;
    p.a = dy;
    p.b = matrix;
    p.c = dweight->data;
    p.ld_a = p.rows;
    p.ld_b = p.ld_c = p.columns;
    p.transpose_a = true;
    p.beta = fresh ? 0 : 1;
    matrix_product(d, &p);
}

static void input_gradient(struct device *d, const struct conv2d_backward_args *a,
                           const struct convolution *c)
{
    working_weight weight(d, a->forward.weight, c->type);
    if (!is_pointwise(c)) {
        convolution_backward_data(d, c, a->dy->data, weight.data, a->dx->data, a->adds);
        return;
    }
    struct matrix_product p = {};
    p.rows = c->n * c->oh * c->ow;
    p.columns = c->ci;
    p.inner = c->co;
    p.type = p.c_type = c->type;
    p.a = a->dy->data;
    p.b = weight.data;
    p.c = a->dx->data;
    p.ld_a = p.inner;
    p.ld_b = p.ld_c = p.columns;
    p.beta = a->adds ? 1 : 0;
    matrix_product(d, &p);
}

static void weight_gradient(struct device *d, const struct conv2d_backward_args *a,
                            const struct convolution *c)
{
    if (is_pointwise(c)) {
        product_backward_weight(d, c, a->forward.x->data, a->dy->data, a->fresh, a->dweight);
        lap_of_part(d, PART_WEIGHT_GRADIENT);
        return;
    }
    if (a->dweight->channels_last) { /* compact, as the library writes it */
        convolution_backward_weight(d, c, a->forward.x->data, a->dy->data, a->dweight->data);
        lap_of_part(d, PART_WEIGHT_GRADIENT);
        return;
    }
    scratch filters(d, (size_t)count_of(a->dweight) * size_of(c->type));
    convolution_backward_weight(d, c, a->forward.x->data, a->dy->data, filters.data);
    lap_of_part(d, PART_WEIGHT_GRADIENT);
    add_filters(d, c, a->fresh, filters.data, (float *)a->dweight->data);
    lap_of_part(d, PART_WEIGHT_SUM);
}

void cuda_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    const struct convolution c = convolution_of(&a->forward);
    if (a->dx) {
        input_gradient(d, a, &c);
        lap_of_part(d, PART_INPUT_GRADIENT);
    }
    if (a->dweight)
        weight_gradient(d, a, &c);
    if (a->dbias) {
        add_column_sums(d, (float *)a->dbias->data, c.type, a->dy->data, c.n * c.oh * c.ow, c.co,
                        c.co, a->fresh_bias);
        lap_of_part(d, PART_BIAS_GRADIENT);
    }
}
