#include "common/base/threads.h"
#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

#include <string.h>

struct masked {
    const float *y, *dy;
    float *dz;
};

static void mask_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct masked *j = arg;
    for (int64_t i = begin; i < end; i++)
        j->dz[i] = j->y[i] > 0 ? j->dy[i] : 0;
}

void cpu_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    const struct linear_args *f = &a->forward;
    int64_t rows = tensor_rows(f->x), in = tensor_last(f->x), out = tensor_last(a->dy);
    const float *dz = a->dy->data;
    size_t granted = 0;
    float *masked = NULL;
    if (f->act == ACTIVATION_RELU) {
        masked = device_allocate(d, (size_t)(rows * out) * sizeof(float), &granted);
        struct masked j = {f->y->data, a->dy->data, masked};
        parallel_for(rows * out, 16384, mask_chunk, &j);
        dz = masked;
    }
    if (a->dx) {
        struct dense_rows gradient = {dz, out};
        struct matmul m = {
            .rows = rows,
            .columns = in,
            .channels = out,
            .taps = 1,
            .find_rows = find_dense_rows,
            .context = &gradient,
            .weight_dtype = DTYPE_F32,
            .weight = f->weight->data,
            .weight_rows = true,
            .c = a->dx->data,
            .ldc = in,
        };
        matmul(d, &m);
    }
    if (a->dweight && a->fresh)
        memset(a->dweight->data, 0, (size_t)(out * in) * sizeof(float));
    if (a->dweight)
        matmul_outer(d, out, in, rows, dz, out, f->x->data, in, a->dweight->data, in);
    if (a->dbias && a->fresh_bias)
        memset(a->dbias->data, 0, (size_t)tensor_count(a->dbias) * sizeof(float));
    if (a->dbias)
        cpu_column_sums(d, a->dbias->data, dz, rows, out);
    if (masked)
        device_release(d, masked, granted);
}
