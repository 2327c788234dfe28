#include "kernels/cuda/plain_product.cuh"

#include "kernels/cuda/bias.cuh"

#define THREADS 256
#define RUN     64 /* products summed before they are added to the total, to keep errors small */

template <typename T, typename C>
static __global__ void __launch_bounds__(THREADS)
    plain_product_kernel(struct matrix_product p, const float *bias)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.rows * p.columns)
        return;
    const int64_t row = i / p.columns, column = i % p.columns;
    const int64_t step_a = p.transpose_a ? p.ld_a : 1, step_b = p.transpose_b ? 1 : p.ld_b;
    const T *a = (const T *)p.a + row * (p.transpose_a ? 1 : p.ld_a);
    const T *b = (const T *)p.b + column * (p.transpose_b ? p.ld_b : 1);
    C *c = (C *)p.c + row * p.ld_c + column;
    float total = 0;
    for (int64_t begin = 0; begin < p.inner; begin += RUN) {
        const int64_t end = begin + RUN < p.inner ? begin + RUN : p.inner;
        float sum = 0;
        for (int64_t k = begin; k < end; k++)
            sum = fmaf(to_float(a[k * step_a]), to_float(b[k * step_b]), sum);
        total += sum;
    }
    if (p.beta != 0)
        total += p.beta * to_float(p.addend ? ((const C *)p.addend)[row * p.ld_c + column] : *c);
    if (bias)
        total += bias[column];
    if (p.relu && total < 0)
        total = 0;
    *c = from_float<C>(total);
}

void plain_product(struct device *d, const struct matrix_product *p)
{
    const int64_t count = p->rows * p->columns;
    if (!count)
        return;
    const dim3 grid((unsigned)divide_up(count, THREADS)), block(THREADS);
    WITH_TYPE(p->type, T, {
        if (p->c_type == DTYPE_F32)
            LAUNCH((plain_product_kernel<T, float>), grid, block, 0, stream_of(d), *p,
                   vector_of(p->bias));
        else
            LAUNCH((plain_product_kernel<T, T>), grid, block, 0, stream_of(d), *p,
                   vector_of(p->bias));
    });
}
