#include "common/base/threads.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"

#include <string.h>

struct masked {
    const struct tensor *y, *dy, *dz;
};

static void mask_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct masked *j = arg;
    float buffers[3][ROWS_BUFFER];
    for (int64_t at = begin, n; at < end; at += n) {
        n = rows_step(j->dz, end - at);
        const float *y = row_read(j->y, at, n, buffers[0]);
        const float *dy = row_read(j->dy, at, n, buffers[1]);
        float *dz = row_begin(j->dz, at, buffers[2]);
        for (int64_t i = 0; i < n; i++)
            dz[i] = y[i] > 0 ? dy[i] : 0;
        row_written(j->dz, at, n, dz);
    }
}

static void by_input(struct device *d, const struct linear_backward_args *a,
                     const struct dense_rows *dz)
{
    const struct tensor *weight = a->forward.weight;
    struct matmul m = {
        .rows = tensor_rows(a->dx),
        .columns = tensor_last(a->dx),
        .channels = dz->ld,
        .taps = 1,
        .find_rows = find_dense_rows,
        .context = dz,
        .dtype = dz->dtype,
        .weight_dtype = DTYPE_F32,
        .weight = weight->data,
        .weight_rows = true,
        .c = a->dx->data,
        .ldc = tensor_last(a->dx),
    };
    struct tensor *sum = NULL;
    if (a->adds && dz->dtype == DTYPE_BF16) {
        m.residual = a->dx->data;
    } else if (a->adds) {
        sum = tensor_new(d, a->dx->dtype, a->dx->ndim, a->dx->shape);
        m.c = sum->data;
    }
    matmul(d, &m);
    if (sum)
        cpu_add(d, &(struct add_args){a->dx, sum, a->dx});
    tensor_release(sum);
}

bool cpu_linear_is_by_weights_bf16(const struct linear_backward_args *a)
{
    return a->dweight && a->dy->dtype == DTYPE_BF16 && cpu_bf16() && tensor_rows(a->dy) > 0;
}

static void by_weights(struct device *d, const struct linear_backward_args *a,
                       struct dense_rows gradient, struct dense_rows x)
{
    int64_t rows = tensor_rows(a->forward.x);
    bool bf16 = cpu_linear_is_by_weights_bf16(a);
    if (a->fresh && !bf16)
        memset(a->dweight->data, 0, (size_t)(gradient.ld * x.ld) * sizeof(float));
    if (!bf16) {
        matmul_outer(d, gradient.ld, x.ld, rows, gradient, x, a->dweight->data, x.ld);
        return;
    }
    struct matmul_outer_bf16 m = {
        .rows = gradient.ld,
        .columns = x.ld,
        .k = rows,
        .taps = 1,
        .a = gradient.data,
        .lda = gradient.ld,
        .find_rows = find_dense_rows,
        .context = &x,
        .c = a->dweight->data,
        .fresh = a->fresh,
    };
    matmul_outer_bf16(d, &m);
}

void cpu_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    const struct linear_args *f = &a->forward;
    int64_t rows = tensor_rows(f->x), in = tensor_last(f->x), out = tensor_last(a->dy);
    const struct tensor *dz = a->dy;
    struct tensor *masked = NULL;
    if (f->act == ACTIVATION_RELU) {
        masked = tensor_new(d, a->dy->dtype, a->dy->ndim, a->dy->shape);
        struct masked j = {f->y, a->dy, masked};
        parallel_for(rows * out, 16384, mask_chunk, &j);
        dz = masked;
    }
    struct dense_rows gradient = {dz->data, out, dz->dtype}, x = {f->x->data, in, f->x->dtype};
    if (a->dx)
        by_input(d, a, &gradient);
    if (a->dweight)
        by_weights(d, a, gradient, x);
    if (a->dbias && a->fresh_bias)
        memset(a->dbias->data, 0, (size_t)tensor_count(a->dbias) * sizeof(float));
    if (a->dbias)
        cpu_column_sums(d, a->dbias->data, dz);
    tensor_release(masked);
}
